"""Leakage of dev and test text into train: detection with evidence, and the detector's own recall."""

from curation.leakage.detect import (
    GENERIC_POLICIES,
    Detector,
    Hit,
    Leak,
    LeakageSettings,
    LeakedPair,
    Piece,
    gather,
    is_removed,
    is_stock_match,
    pieces,
    remove_leaks,
)
from curation.leakage.planted import KINDS, measure_recall

__all__ = [
    "GENERIC_POLICIES",
    "KINDS",
    "Detector",
    "Hit",
    "Leak",
    "LeakageSettings",
    "LeakedPair",
    "Piece",
    "gather",
    "is_removed",
    "is_stock_match",
    "measure_recall",
    "pieces",
    "remove_leaks",
]
