"""Deduplication of conversations inside one split, with evidence for every removal."""

from curation.dedup.rules import DedupResult, DedupSettings, deduplicate

__all__ = ["DedupResult", "DedupSettings", "deduplicate"]
