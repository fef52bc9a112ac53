"""Blocks of a page that hold what a command prints.

A block stands between ``<!-- begin: COMMAND -->`` and ``<!-- end -->``, and may choose rows of what is printed:
``<!-- begin: heartwood flow --markdown | tables 1 -->`` takes the first table alone. ``<!-- begin real: ... -->`` is
of a run on the real corpora: it is written only from a clone in which that run was made.
"""

import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

REAL = "real"
BLOCK = re.compile(r"<!-- begin( \w+)?: (heartwood .+?)(?: \| tables? ([\d,]+))? -->\n(.*?)<!-- end -->", re.DOTALL)


def pages(root: Path) -> Iterator[Path]:
    """README, CONTRIBUTING and every page of docs/, in order of name."""
    yield root / "README.md"
    yield root / "CONTRIBUTING.md"
    yield from sorted((root / "docs").rglob("*.md"))


def fill(text: str, folders: Mapping[str, Path]) -> str:
    """The page with every block written again whose folder is given; other blocks stay as they are."""

    def write(found: re.Match[str]) -> str:
        kind, command, tables, _ = found.groups()
        folder = folders.get((kind or "").strip())
        if folder is None:
            return found[0]
        begin = found[0].partition("\n")[0]
        return f"{begin}\n{shown(command, tables, folder)}<!-- end -->"

    return BLOCK.sub(write, text)


def shown(command: str, tables: str | None, folder: Path) -> str:
    """What a command of ours prints in a folder: Markdown as it is, anything else in a fenced block."""
    from shlex import split

    done = subprocess.run(
        [sys.executable, "-m", "heartwood.cli", *split(command)[1:]],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{command} (in {folder}) exited {done.returncode}:\n{done.stdout}{done.stderr}")
    output = "\n".join(line.rstrip() for line in done.stdout.splitlines()).replace("rows at workspace", "rows")
    if "--markdown" not in command:
        return f"\n```text\n{output}\n```\n\n"
    parts = [part for part in output.split("\n\n") if part.startswith("|")]
    chosen = [parts[int(n) - 1] for n in tables.split(",")] if tables else parts
    return "\n" + "\n\n".join(chosen) + "\n\n"
