"""`dvc plots` in a small repository: what it draws, and that the page needs no network."""

import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from pipelines.reporting.plots import loss_rows, mixture_rows, rate_rows, removal_rows, score_rows
from pipelines.reporting.training import read_curve
from tests.browser import open_browser
from tests.project import ROOT, Project
from tests.reporting.hostile import dump
from tests.small_project import small_reports

PLOTS = YAML(typ="safe", pure=True).load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["plots"]
BUNDLES = {
    "vega 5.33.0": "c340b4a196cf11758cf6e71305d3725de2d7f3c514b4386fd91328c842618f2a",
    "vega-lite 5.23.0": "9525bc3368d62c580e8fcbf5db63c4a95c04052fe32ced063817c677cc98801c",
    "vega-embed 6.29.0": "16512fd17119051ee3f859467e174fe1503ff86c0a4743aaf8b7c10da3dd83e0",
}
DEV = [{"step": 5, "dev_loss": 4.8}]
CURVE = [{"step": n, "loss": 5 - n / 10, "learning_rate": 0.001, "tokens": 7} for n in range(1, 10)]


def rows(better: float = 0.0) -> dict[str, list[dict[str, Any]]]:
    reports = small_reports()
    receipt = reports["mixture"] | {"requested": {"one": 1.0}, "realised": {"one": 1.0}}
    scores = {
        model: {"index": 2.0 + better, "ci_low": 1.9, "ci_high": 2.1 + better, "degenerate_rate": 0.1, "n": 9}
        for model in ("base", "sft-100")
    }
    return {
        "loss": loss_rows([read_curve("sft-100", CURVE, DEV, 0), read_curve("sft-150", CURVE, [], 20)]),
        "learning_rate": rate_rows({"sft-100": CURVE, "sft-150": CURVE}, {"sft-100": 0, "sft-150": 20}),
        "scores": score_rows(scores),
        "mixture": mixture_rows(receipt),
        "removals": removal_rows(*(reports[n] for n in ("records", "split", "dedup", "leakage"))),
    }


def test_rows_are_numbers_and_names_in_a_fixed_order():
    found = rows()
    assert found["removals"] == [
        {"stage": "records", "rule": "records: quarantined", "source": "one", "removed": 2},
        {"stage": "split", "rule": "split: group in a later split", "source": "one", "removed": 1},
        {"stage": "dedup", "rule": "dedup: near-v1", "source": "one", "removed": 1},
    ]
    assert found["mixture"] == [{"source": "one", "requested": 1.0, "realised": 1.0, "examples": 4}]
    assert found["scores"][0] == {"model": "base", "index": 2.0, "low": 1.9, "high": 2.1, "degenerate_rate": 0.1}
    steps = [(r["model"], r["set"], r["step"]) for r in found["loss"]]
    assert steps[0] == ("sft-100", "train", 1)
    assert ("sft-100", "dev", 5) in steps
    assert steps[-1] == ("sft-150", "train", 29)
    assert found["learning_rate"][9] == {"model": "sft-150", "step": 21, "learning_rate": 0.001}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A repository with this one's plots, templates and page; its rows were committed, then changed."""
    base = tmp_path_factory.mktemp("plots")
    made = Project(base / "project", base / "state")
    made.folder.mkdir()
    made.run("git", "init", "-q", "-b", "main")
    made.dvc("init", "-q")
    shutil.copytree(ROOT / ".dvc" / "plots", made.folder / ".dvc" / "plots")
    shutil.copyfile(ROOT / ".dvc" / "config", made.folder / ".dvc" / "config")
    dump(made.folder / "dvc.yaml", {"plots": PLOTS})
    for better in (0.0, 0.5):
        for name, found in rows(better).items():
            dump(made.folder / f"reports/plots/{name}.json", found)
        if not better:
            made.commit("first")
    return made


@pytest.mark.pipeline
def test_plots_show_draws_every_picture(project):
    shown = json.loads(project.dvc("plots", "show", "--json").stdout)
    assert not shown.get("errors")
    assert set(shown["data"]) == {"scores", "loss", "learning_rate", "mixture", "removals"}
    for name, found in shown["data"].items():
        values = found[0]["content"]["data"]["values"]
        assert [{k: v for k, v in row.items() if k != "rev"} for row in values] == rows(0.5)[name]
        assert "DVC_METRIC" not in json.dumps(found)


@pytest.mark.pipeline
def test_plots_diff_has_both_revisions_in_each_picture(project):
    shown = json.loads(project.dvc("plots", "diff", "HEAD", "workspace", "--json").stdout)
    for found in shown["data"].values():
        assert {row["rev"] for row in found[0]["content"]["data"]["values"]} == {"HEAD", "workspace"}
    index = {row["rev"]: row["index"] for row in shown["data"]["scores"][0]["content"]["data"]["values"]}
    assert index == {"HEAD": 2.0, "workspace": 2.5}


@pytest.mark.pipeline
def test_editors_get_data_colours_and_width_apart_from_the_template(project):
    """The form in which the DVC extension for VS Code asks for plots."""
    shown = json.loads(project.dvc("plots", "diff", "HEAD", "workspace", "--json", "--split").stdout)
    for found in shown["data"].values():
        anchors = found[0]["anchor_definitions"]
        assert {f"<DVC_METRIC_{name}>" for name in ("DATA", "COLOR", "PLOT_WIDTH", "TITLE")} <= set(anchors)
        assert set(anchors["<DVC_METRIC_COLOR>"]["scale"]["domain"]) == {"HEAD", "workspace"}


@pytest.mark.pipeline
def test_the_page_holds_vega_itself_and_asks_for_nothing(project, tmp_path):
    project.dvc("plots", "diff", "HEAD", "-o", "out")
    page = project.folder / "out" / "index.html"
    text = page.read_text(encoding="utf-8")
    markup = re.sub(r"<script[^>]*>.*?</script>", "", text, flags=re.S)
    assert not re.search(r"\b(src|href)\s*=", markup)
    assert not re.search(r"<script[^>]*\bsrc", text)
    scripts = re.findall(r"<script>(.*?)</script>", text, re.S)
    assert [hashlib.sha256(s.encode()).hexdigest() for s in scripts[:3]] == list(BUNDLES.values())
    assert len(text) < 1_500_000
    with open_browser(tmp_path / "profile") as browser:
        for width in (390, 1440):
            browser.show(page, width=width)
            assert browser.complaints() == []
            assert [url for url in browser.requested() if not url.startswith(("file:", "data:", "about:"))] == []
            drawn = browser.run(
                "return [...document.querySelectorAll('svg.marks')].map(s => s.getBoundingClientRect().right)"
            )
            assert len(drawn) == 5
            assert max(drawn) <= width
            assert browser.run("return document.documentElement.scrollWidth") <= width
            shown = browser.run("return document.body.textContent")
            titles = ("Scores", "Loss", "Learning rate", "Mixture", "Removed rows")
            assert all(word in shown for word in (*titles, "HEAD", "workspace"))


def test_the_bundles_are_named_in_notice():
    notice = (ROOT / "NOTICE").read_text(encoding="utf-8")
    assert all(name in notice for name in BUNDLES)
    assert Path(ROOT / ".dvc/plots/LICENSE.vega").is_file()
