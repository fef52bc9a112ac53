import re
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from benchmarks.published_claim import RATINGS, write_project
from heartwood.cli import app

# Mean difference, standard deviation, up / down / same of the published contrasts.
PUBLISHED = {
    ("base", "sft-100"): (0.033, 1.10, (7, 6, 17)),
    ("sft-100", "sft-150"): (0.033, 0.89, (6, 6, 18)),
    ("base", "sft-150"): (0.067, 1.17, (5, 6, 19)),
}


def test_the_synthetic_ratings_share_what_was_published() -> None:
    ratings = {model: np.array([int(d) for d in digits]) for model, digits in RATINGS.items()}
    assert [round(float(r.mean()), 3) for r in ratings.values()] == [3.767, 3.8, 3.833]
    for (a, b), (mean, sd, counts) in PUBLISHED.items():
        d = ratings[b] - ratings[a]
        assert (round(float(d.mean()), 3), round(float(d.std(ddof=1)), 2)) == (mean, sd)
        assert ((d > 0).sum(), (d < 0).sum(), (d == 0).sum()) == counts


def test_the_page_shows_what_its_commands_print(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, repo_root: Path
) -> None:
    write_project(tmp_path / "claim")
    monkeypatch.chdir(tmp_path / "claim")
    page = (repo_root / "docs" / "published-claim.md").read_text(encoding="utf-8")
    shown = re.findall(r"```\n\$ heartwood (.*?)\n(.*?)```", page, re.DOTALL)
    assert len(shown) == 5
    for command, output in shown:
        done = CliRunner().invoke(app, command.split())
        assert done.exit_code == 0, done.output
        assert [line.rstrip() for line in done.stdout.splitlines()] == output.splitlines()
