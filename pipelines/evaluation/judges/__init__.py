"""Judges: what rates a reply that passed the gates, and the checks that a judge itself must pass."""
