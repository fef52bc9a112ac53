"""Prompts, gates, judges, statistics and scores: how a reply becomes a number, and what the number is worth."""
