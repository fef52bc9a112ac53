"""Write every generated file and block of the documentation, or say which are out of date.

python -m docs.generate                     write them
python -m docs.generate --check             write nothing; exit 1 and name what is out of date
python -m docs.generate --real PATH         write also the blocks of a run on the real corpora, from that clone
"""

import argparse
import json
import sys
from pathlib import Path

from docs.generate.blocks import REAL, fill, pages
from docs.generate.commands import command_pages
from docs.generate.params import params_page
from docs.generate.picture import DARK, LIGHT, pipeline_svg
from docs.generate.stages import stages_page
from pipelines.settings.schema import SCHEMA, json_schema

ROOT = Path(__file__).resolve().parents[2]


def generated(root: Path) -> dict[str, str]:
    """Path and text of every file that is generated as a whole."""
    return {
        SCHEMA: json.dumps(json_schema(), indent=2) + "\n",
        "docs/reference/params.md": params_page(root),
        "docs/reference/stages.md": stages_page(root),
        "docs/images/pipeline-light.svg": pipeline_svg(root, LIGHT),
        "docs/images/pipeline-dark.svg": pipeline_svg(root, DARK),
        **command_pages(),
    }


def filled(root: Path, real: Path | None) -> dict[str, str]:
    """Path and text of every page that has generated blocks; those of the real corpora only with a clone."""
    folders = {"": root, **({REAL: real} if real else {})}
    return {page.relative_to(root).as_posix(): fill(page.read_text(encoding="utf-8"), folders) for page in pages(root)}


def main(arguments: list[str]) -> int:
    """Do what the arguments say; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m docs.generate", description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if something is out of date")
    parser.add_argument("--real", type=Path, metavar="PATH", help="a clone whose pipeline ran on the real corpora")
    asked = parser.parse_args(arguments)
    # Files first: a page with blocks may itself be generated.
    stale = []
    for make in (lambda: generated(ROOT), lambda: filled(ROOT, asked.real)):
        for name, text in make().items():
            target = ROOT / name
            if target.is_file() and target.read_text(encoding="utf-8") == text:
                continue
            stale.append(name)
            if not asked.check:
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(text, encoding="utf-8", newline="\n")
    for name in stale:
        print(f"{name}: {'out of date' if asked.check else 'written'}")
    if stale and asked.check:
        print("  next: python -m docs.generate", file=sys.stderr)
    return int(asked.check and bool(stale))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
