"""The shell blocks of README and docs/, run in order in a copy of the repository whose pipeline ran once."""

import pytest

from docs.generate.blocks import pages
from tests.pages import blocks_of, run_block
from tests.pipeline.clone import Clone
from tests.project import ROOT

pytestmark = pytest.mark.pipeline

NAMES = [page.relative_to(ROOT).as_posix() for page in pages(ROOT)]
PAGES = [n for n in NAMES if any(not b.not_run for b in blocks_of((ROOT / n).read_text(encoding="utf-8"), n))]


@pytest.mark.parametrize("page", PAGES)
def test_the_blocks_of_a_page_run(copy: Clone, page: str) -> None:
    for block in blocks_of((ROOT / page).read_text(encoding="utf-8"), page):
        if not block.not_run:
            assert (failed := run_block(block, copy.folder, copy.env)) is None, failed
