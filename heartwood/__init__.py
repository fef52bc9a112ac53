"""The command ``heartwood``: the questions that DVC cannot answer."""
