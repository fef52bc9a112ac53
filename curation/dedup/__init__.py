"""Deduplication of conversations inside one split, with evidence for every removal."""

from curation.dedup.rules import LABEL_POLICIES, DedupResult, DedupSettings, deduplicate, restore

__all__ = ["LABEL_POLICIES", "DedupResult", "DedupSettings", "deduplicate", "restore"]
