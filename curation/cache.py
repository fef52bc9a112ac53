"""The folder outside the workspace where downloads and vectors are kept between runs."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """``HEARTWOOD_CACHE``, or ``heartwood`` in the user's cache folder."""
    if explicit := os.environ.get("HEARTWOOD_CACHE"):
        return Path(explicit)
    base = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA") or Path.home() / ".cache"
    return Path(base) / "heartwood"
