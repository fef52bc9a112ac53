"""Running and reading several experiments."""
