import json
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from curation.errors import HeartwoodError
from heartwood.cli import app
from pipelines.provenance.outs import Outs
from pipelines.provenance.revision import Revision
from pipelines.reporting.flow import read_flow
from pipelines.reporting.site.gather import Site, gather
from pipelines.reporting.site.page import render
from pipelines.reporting.site.pairs import read_pairs
from pipelines.reporting.site.replies import read_replies
from pipelines.reporting.site.sankey import BAR, draw, steps_of
from pipelines.reporting.site.text import closest, differences, visible
from pipelines.reporting.site.words import plainly
from pipelines.reporting.training import read_curve, steps_before
from tests.project import Project
from tests.reporting.hostile import HOSTILE, MODELS, OVERRIDE, SOURCE, STOCK, VERDICTS, build, contrast, dump

WHEN = datetime(2026, 5, 4, 3, 2, tzinfo=UTC)
WORKSPACE = Revision("workspace", "")


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("hostile"))


@pytest.fixture(autouse=True)
def verdicts(monkeypatch: pytest.MonkeyPatch) -> None:
    """What verification finds is its own tests' business; here it has found something hostile."""
    monkeypatch.setattr("pipelines.reporting.site.gather.verify", lambda revision: VERDICTS)


def gathered(folder: Path) -> Site:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return gather(WORKSPACE, WHEN)


@given(st.text(alphabet="ab cd.!é\n", max_size=40), st.text(alphabet="ab cd.!é\n", max_size=40))
def test_the_parts_of_two_texts_are_the_texts_and_what_is_alike_is_the_same(a, b):
    left, right = differences(a, b)
    assert "".join(left) == a
    assert "".join(right) == b
    assert "".join(left[::2]).casefold() == "".join(right[::2]).casefold()


def test_what_differs_is_marked_word_by_word():
    assert differences("I lost my dog today.", "I LOST my cat today") == (
        ["I lost my ", "dog", " today", "."],
        ["I LOST my ", "cat", " today"],
    )
    assert differences("", "all of it") == ([""], ["", "all of it"])


@given(st.text(max_size=80))
def test_no_steering_character_is_left_and_none_is_lost(found):
    shown = visible(found)
    assert not re.search(
        "[\u0000-\u0008\u000e-\u001f\u007f-\u009f\u061c\u200b\u200e\u200f\u202a-\u202e\u2066-\u2069]", shown
    )
    assert shown.count("⟦U+") >= sum(c in "\u202e\u2066\u200b" for c in found)


def test_the_turns_that_repeat_each_other_are_found_and_a_stock_phrase_does_not_hide_them():
    said = ["hi there", "my old dog died last night", "how are you"]
    assert closest(said, ["thank you", "Hi there", "My old dog died, last night!"]) == (1, 2)
    assert closest(["a b"], ["x", "b"]) == (0, 1)


def test_an_override_is_named_and_a_long_text_is_cut():
    assert visible(f"a{OVERRIDE}b") == "a⟦U+202E⟧b"
    assert visible("family 👨\u200d👩\u200d👧") == "family 👨\u200d👩\u200d👧"
    assert visible("word " * 1000, 20) == "word word word word…"


def test_the_flow_adds_up_from_bar_to_bar(hostile, monkeypatch):
    monkeypatch.chdir(hostile)
    flow = read_flow(WORKSPACE)
    steps = steps_of(flow)
    assert [(s.unit, sum(s.before.values()), sum(s.after.values())) for s in steps] == [
        ("raw rows", 12, 10),
        ("records", 10, 6),
        ("records", 6, 5),
        ("records", 5, 5),
        ("training examples", 5, 4),
    ]
    for step in steps:
        out = sum(step.after.values()) + sum(e.total for e in step.exits)
        assert sum(step.before.values()) + sum(step.joined.values()) == out
    picture = draw(steps[1:4], flow.sources, 1000, 190)
    scale = 190 / 10
    assert {round(b.height / scale, 6) for b in picture.bars if not b.ends} == {10, 6, 5}
    for bar in picture.bars:
        assert bar.height == pytest.approx(bar.rows * scale)
        assert bar.y + bar.height <= picture.height
        assert bar.x + BAR <= picture.width
    first = [b for b in picture.bars if b.x == picture.bars[1].x]
    assert sum(b.rows for b in first) == picture.bars[0].rows


def test_bars_and_labels_do_not_lie_on_each_other(small_project, monkeypatch):
    monkeypatch.chdir(small_project)
    flow = read_flow(WORKSPACE)
    steps = [s for s in steps_of(flow) if s.unit == "records"]
    bars = draw(steps, flow.sources, 1000, 190).bars
    for a in bars:
        for b in bars:
            if a is not b and a.x == b.x and a.y <= b.y:
                assert a.y + max(a.height, 28 if a.ends else 0) <= b.y


def test_a_flow_that_loses_rows_is_no_picture(hostile, monkeypatch, tmp_path):
    monkeypatch.chdir(hostile)
    flow = read_flow(WORKSPACE)
    at = next(i for i, line in enumerate(flow.lines) if line.label == "clean train")
    flow.lines[at] = type(flow.lines[at])("leakage", "clean train", 4, {SOURCE: 4})
    with pytest.raises(HeartwoodError, match="5 records go in, 4 come out"):
        steps_of(flow)


def test_pairs_name_both_sides_and_all_are_counted(hostile, monkeypatch):
    monkeypatch.chdir(hostile)
    found = read_pairs(Outs(WORKSPACE))
    assert found.total == {"split": 0, "duplicate": 30, "leak": 30, "close call": 1}
    assert len(found.shown) == 61
    leak = next(p for p in found.shown if p["kind"] == "leak")
    assert leak["place"] == "dev"
    assert leak["uid"] != leak["other"]
    marked = [parts for _, parts in leak["a"] if isinstance(parts, list)]
    assert len(marked) == 1
    assert any("unlike" in part for part in marked[0][1::2])
    duplicate = next(p for p in found.shown if p["kind"] == "duplicate")
    assert all(isinstance(parts, list) and len(parts) == 1 for _, parts in duplicate["a"])


def test_too_many_pairs_are_a_fixed_sample_in_which_every_rule_takes_its_turn(hostile, monkeypatch):
    monkeypatch.chdir(hostile)
    few = read_pairs(Outs(WORKSPACE), budget=9000)
    assert few == read_pairs(Outs(WORKSPACE), budget=9000)
    assert 4 < len(few.shown) < 30
    assert sum(few.total.values()) == 61
    assert len(json.dumps(few.shown, ensure_ascii=False).encode()) <= 9000 + 2 * len(few.shown)
    rules = {p["rule"] for p in few.shown}
    assert len(rules) == 5
    assert few.shown_of("leak") + few.shown_of("duplicate") + few.shown_of("close call") == len(few.shown)


def test_a_ledger_that_names_a_record_that_is_nowhere_is_an_error(hostile, monkeypatch, tmp_path):
    from curation.records import write_records

    folder = build(tmp_path / "p", pairs=2)
    monkeypatch.chdir(folder)
    write_records([], folder / "data/split/dev.parquet")
    with pytest.raises(HeartwoodError, match="no split holds it"):
        read_pairs(Outs(WORKSPACE))


def test_replies_stand_beside_each_other_with_what_the_gates_said(hostile, monkeypatch):
    monkeypatch.chdir(hostile)
    found = read_replies(Outs(WORKSPACE), MODELS)
    assert (len(found.shown), found.total) == (24, 24)
    assert [r["status"] for r in found.shown[3]["replies"]] == ["degenerate", "degenerate"]
    assert [r["mechanisms"] for r in found.shown[0]["replies"]] == [[0.5, 0.5, 0.5]] * 2
    few = read_replies(Outs(WORKSPACE), MODELS, budget=3000)
    assert 0 < len(few.shown) < few.total == 24
    assert few.openings == found.openings


def test_how_replies_begin_is_counted_over_all_prompts(monkeypatch, tmp_path):
    folder = build(tmp_path / "p", pairs=2)
    path = folder / f"data/responses/{MODELS[1]}.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    said = ["That's a shame.", "THAT S A pity", "that s a \u202egood day", "", "Yes."]
    texts = [said[n % 5] if n < 10 else f"{n} times <b>" for n in range(24)]
    changed = [{**row, "text": text} for row, text in zip(rows, texts, strict=True)]
    path.write_text("".join(json.dumps(row) + "\n" for row in changed), encoding="utf-8")
    monkeypatch.chdir(folder)
    found = read_replies(Outs(WORKSPACE), MODELS).openings[MODELS[1]]
    assert found == [("that s a", 6), ("yes", 2), ("10 times b", 1), ("11 times b", 1), ("12 times b", 1)]
    page = render(gathered(folder))
    assert '“<bdi>that s a</bdi>” <span class="muted">6</span>' in page


def test_a_prompt_without_a_reply_is_an_error(monkeypatch, tmp_path):
    folder = build(tmp_path / "p", pairs=2)
    monkeypatch.chdir(folder)
    path = folder / "data/responses/base.jsonl"
    path.write_text("".join(path.read_text(encoding="utf-8").splitlines(keepends=True)[1:]), encoding="utf-8")
    with pytest.raises(HeartwoodError, match="prompt p0 has no reply of base"):
        read_replies(Outs(WORKSPACE), MODELS)


def test_steps_go_on_where_the_parent_stopped():
    checkpoints = {
        "a": {"steps": 100, "parent": "models/base.json"},
        "b": {"steps": 50, "parent": "models/a"},
        "c": {"steps": 5, "parent": "models/b"},
    }
    assert [steps_before(checkpoints, name) for name in checkpoints] == [0, 100, 150]
    train = [{"step": n, "loss": 4.0 - n, "learning_rate": 0.1, "tokens": 5} for n in (1, 2)]
    found = read_curve("b", train, [{"step": 2, "dev_loss": 2.5}], 100)
    assert [(p["step"], p["set"], p["loss"]) for p in found.points] == [
        (101, "train", 3.0),
        (102, "train", 2.0),
        (102, "dev", 2.5),
    ]
    assert [r["step"] for r in found.rates] == [101, 102]
    with pytest.raises(HeartwoodError, match=r"reports/training/b\.json: not a list of steps"):
        read_curve("b", [{"step": 1}], [], 0)


def test_what_training_found_is_shown_and_a_run_that_was_not_watched_says_so(hostile, tmp_path):
    page = render(gathered(hostile))
    assert "overfitting: it went past its best" in page
    assert "Sample replies at its end" in page
    assert "0.1235" in page
    folder = build(tmp_path / "p", pairs=2)
    for name in ("sft-100.dev", "sft-100.summary"):
        (folder / f"reports/training/{name}.json").unlink()
    page = render(gathered(folder))
    assert "No loss on dev was measured" in page
    assert "overfitting: it went" not in page


def test_differences_are_said_plainly():
    said = plainly(contrast("inconclusive", 0.02, -0.1, 0.14))
    assert said.startswith("Inconclusive: the average differs by +0.02, but the true difference may lie anywhere from")
    assert "could have shown a difference of 0.30" in said
    assert "not called better" in plainly(contrast("inconclusive", 0.2, 0.1, 0.3, degenerate_rate_rose=True))
    alike = plainly(contrast("improved", 0.4, 0.3, 0.5, **STOCK))
    assert "64 % of its replies begin with the same three words, of the other model's 4 %" in alike
    assert "Their average is 2.40, that of its other replies 1.80." in alike
    few = {**STOCK, "stock_opening_rate_to": 0.05}
    assert "begin with" not in plainly(contrast("improved", 0.4, 0.3, 0.5, **few))
    worse = plainly(contrast("worse", -0.38, -0.46, -0.29, p_holm=0.0001))
    assert worse.startswith(
        "On average 0.38 lower, and very likely between 0.29 and 0.46 lower (95 % interval; adjusted"
    )
    assert "p under 0.001" in worse


def test_no_hostile_text_is_markup(hostile):
    page = render(gathered(hostile))
    assert page.count("<script") == 2 == page.count("</script>")
    assert page.count("<style") == 1 == page.count("</style>")
    assert OVERRIDE not in page
    outside = re.sub(r"<script.*?</script>", "", page, flags=re.S)
    for text in HOSTILE:
        if "<" in text:
            assert text not in outside
    assert "{{ 7 * 7 }}" in page
    assert not re.search(r"<[^>]* on\w+=", outside)
    assert not re.search(r'(href|src)="(?!#|data:)', outside)
    # Names in the SVG are namespaces, never loaded.
    assert set(re.findall(r"https?://[\w./]+", page)) == {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}


def test_the_page_says_what_it_cannot_show_and_the_next_command(tmp_path):
    folder = build(tmp_path / "p", pairs=2)
    for gone in ("data", "reports"):
        (folder / gone).rename(tmp_path / gone)
    site = gathered(folder)
    page = render(site)
    assert set(site.problems) >= {"scores", "replies", "pairs", "flow", "mixture", "judge", "training", "validation"}
    assert page.count("Not shown.") >= 9
    assert "dvc pull data/prompts.jsonl data/responses" in page


def test_the_gravest_verdict_is_the_pages_and_what_was_not_checked_does_not_hold(hostile, monkeypatch):
    page = render(gathered(hostile))
    assert "Broken: do not trust these scores" in page
    assert "does not hold" in page
    monkeypatch.setattr("pipelines.reporting.site.gather.verify", lambda revision: VERDICTS[:1])
    assert "does not hold" not in render(gathered(hostile))
    assert gathered(hostile).verdict == "verified"

    def fails(revision):
        raise HeartwoodError("no lock", hint="dvc repro")

    monkeypatch.setattr("pipelines.reporting.site.gather.verify", fails)
    page = render(gathered(hostile))
    assert "Could not be checked" in page
    assert "; not checked" in page
    assert "; holds" not in page


def test_a_report_in_another_form_costs_its_section_and_no_other(tmp_path):
    folder = build(tmp_path / "p", pairs=2)
    dump(folder / "reports/judge.json", {"label": "exploratory"})
    dump(folder / "reports/validation.json", {"train": {"success": True}})
    page = render(gathered(folder))
    assert page.count("are not in a form that this version reads") == 2
    assert "no clear difference" in page
    assert page.count("<section") == 9


def test_scores_and_verdict_come_first(hostile):
    page = render(gathered(hostile))
    places = [
        page.index(f'id="{name}"') for name in ("scores", "replies", "judge", "mixture", "flow", "pairs", "chain")
    ]
    assert page.index('class="verdict') < places[0]
    assert places == sorted(places)
    assert "no clear difference" in page
    assert "4 May 2026, 03:02 UTC" in page


def test_every_part_of_a_page_of_many_long_texts_stays_within_its_budget(hostile, monkeypatch):
    """The real corpora have thirty times as many pairs as fit; what a page holds of them is bounded."""
    monkeypatch.chdir(hostile)
    from pipelines.reporting.site import pairs, replies
    from pipelines.reporting.site.page import LARGEST

    assert pairs.BUDGET + replies.BUDGET < LARGEST - 1_000_000


def test_report_writes_one_file_and_says_what_it_found(hostile, monkeypatch, tmp_path):
    monkeypatch.chdir(hostile)
    done = CliRunner().invoke(app, ["report", "--out", str(tmp_path / "site"), "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert [p.name for p in (tmp_path / "site").iterdir()] == ["index.html"]
    assert found["bytes"] == (tmp_path / "site" / "index.html").stat().st_size
    assert found["verdict"] == "broken"
    assert found["verdicts"] == {"base": "verified", "sft-100": "broken"}
    plain = CliRunner().invoke(app, ["report", "--out", str(tmp_path / "site")])
    assert str(tmp_path / "site" / "index.html") in plain.stdout.replace("\n", "")


def test_a_missing_library_is_named_with_the_command_that_installs_it(hostile, monkeypatch):
    monkeypatch.chdir(hostile)
    monkeypatch.setattr(
        "pipelines.reporting.site.gather.find_spec", lambda name: None if name == "vl_convert" else name
    )
    done = CliRunner().invoke(app, ["report"])
    assert done.exit_code == 1
    assert "vl_convert is not installed" in done.output
    assert "start.py setup" in done.output


def test_a_revision_that_is_none_is_an_error_with_a_next_step(hostile, monkeypatch):
    monkeypatch.chdir(hostile)
    done = CliRunner().invoke(app, ["report", "nowhere"])
    assert done.exit_code == 1
    assert "next:" in done.output


@pytest.mark.pipeline
def test_outs_of_a_commit_come_from_the_cache(tmp_path, monkeypatch):
    """Replies of an older commit, whose files the workspace no longer has."""
    made = Project(tmp_path / "project", tmp_path / "state")
    build(made.folder, pairs=2)
    (made.folder / "dvc.lock").unlink()
    copied = {path: made.read(path) for path in ("data/prompts.jsonl", *(f"data/responses/{m}.jsonl" for m in MODELS))}
    for path, text in copied.items():
        made.write(f"kept/{path.replace('/', '_')}", text)
        (made.folder / path).unlink()
    stages = {
        f"s{n}": {"cmd": f"cp kept/{p.replace('/', '_')} {p}", "deps": [f"kept/{p.replace('/', '_')}"], "outs": [p]}
        for n, p in enumerate(copied)
    }
    made.dvc("init", "-q")
    dump(made.folder / "dvc.yaml", {"stages": stages})
    made.dvc("repro", "-q")
    made.commit("first")
    first = made.run("git", "rev-parse", "HEAD").stdout.strip()
    for path in copied:
        (made.folder / path).write_text("", encoding="utf-8")
    monkeypatch.chdir(made.folder)
    assert len(read_replies(Outs(Revision("first", first)), MODELS).shown) == 24
    with pytest.raises(HeartwoodError):
        read_replies(Outs(Revision("first", first)), ("base", "other"))
