"""README and docs/: the shell blocks are right as written, generated parts are current, the site builds offline."""

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from docs.generate.__main__ import generated
from docs.generate.blocks import fill, pages
from tests.pages import Block, blocks_of, commands_of, fault
from tests.project import ROOT

GENERATED = generated(ROOT)
PAGES = [page.relative_to(ROOT).as_posix() for page in pages(ROOT)]


def read(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_every_block_is_one_that_exists(page: str) -> None:
    for block in blocks_of(read(page), page):
        subprocess.run(["bash", "-n", "-c", block.text], check=True)
        for command in commands_of(block.text):
            assert fault(command, ROOT) is None, f"{page}, line {block.line}: {command}"


@pytest.mark.parametrize("page", PAGES)
def test_every_shell_block_is_marked_as_one(page: str) -> None:
    text = read(page)
    assert len(re.findall(r"^ *```bash$", text, re.MULTILINE)) == len(blocks_of(text, page))
    assert not re.findall(r"^ *```(?:sh|shell|console)$", text, re.MULTILINE)
    # Indented blocks would be neither checked nor run.
    outside = re.sub(r"^ *```.*?^ *```$", "", text, flags=re.DOTALL | re.MULTILINE)
    assert not re.findall(r"^ {4}(?:heartwood|dvc|python3?|git) .*$", outside, re.MULTILINE)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("heartwood score", "no verb"),
        ("heartwood scores --nope", "--nope"),
        ("heartwood dedup a.csv --near 7", "less than or equal to 1"),
        ("dvc exp runn", "dvc exp runn"),
        ("dvc exp run -S mix.esconvv=0.4", "mix.esconvv"),
        ("dvc exp run -S mix.esconv=1.4", "1.4"),
        ("dvc exp run --queue -S 'mix.esconv=0.2,-1'", "-1"),
        ("python3 start.py tests", "tests"),
        ("python -m docs.generat", "no module"),
        ("frobnicate", "does not know"),
        ("true_is_not=1 heartwood nope", "no verb"),
        ("git status && heartwood nope", "no verb"),
    ],
)
def test_a_wrong_command_is_found_without_running_it(text: str, found: str) -> None:
    faults = [f for command in commands_of(text) if (f := fault(command, ROOT))]
    assert len(faults) == 1
    assert found in faults[0]


def test_annotations_of_blocks() -> None:
    text = "a\n\n```bash\none\n```\n\n<!-- exit: 3 -->\n```bash\ntwo\n```\n<!-- not run: a GPU -->\n\n```bash\n3\n```\n"
    assert blocks_of(text, "p") == [
        Block("p", 3, "one\n"),
        Block("p", 8, "two\n", exit_code=3),
        Block("p", 13, "3\n", not_run="a GPU"),
    ]


@pytest.mark.parametrize("name", list(GENERATED))
def test_what_is_generated_is_current(name: str) -> None:
    assert read(name) == GENERATED[name], "run: python -m docs.generate"


def test_blocks_show_what_the_commands_print() -> None:
    for page in PAGES:
        assert read(page) == fill(read(page), {"": ROOT}), f"{page}: run: python -m docs.generate"


def test_a_block_of_the_real_corpora_is_left_alone_without_their_run(tmp_path: Path) -> None:
    text = "<!-- begin real: heartwood flow --markdown | table 1 -->\nas it was\n<!-- end -->"
    assert fill(text, {"": tmp_path}) == text


class Addresses(HTMLParser):
    """Everything that a browser would fetch by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        fetched = named.get("src") if tag in ("script", "img", "iframe") else None
        if tag == "link" and named.get("rel") != "canonical":
            fetched = named.get("href")
        self.found += [fetched] if fetched else []


def test_the_site_builds_strictly_and_fetches_nothing_from_elsewhere(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    built = list((tmp_path / "site").rglob("*.html"))
    assert len(built) >= len(PAGES) - 2
    for page in built:
        parser = Addresses()
        parser.feed(page.read_text(encoding="utf-8"))
        assert not [a for a in parser.found if re.match(r"(?:https?:)?//", a)], page
    for sheet in (tmp_path / "site").rglob("*.css"):
        assert not re.findall(r"url\([\"']?(?:https?:)?//", sheet.read_text(encoding="utf-8")), sheet
