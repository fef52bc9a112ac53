"""Leakage of dev and test text into train: detection with evidence, and the detector's own recall."""

from curation.leakage.detect import Detector, Leak, LeakageSettings, remove_leaks
from curation.leakage.planted import KINDS, measure_recall

__all__ = ["KINDS", "Detector", "Leak", "LeakageSettings", "measure_recall", "remove_leaks"]
