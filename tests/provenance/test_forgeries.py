"""Forgeries: each is caught at the level that promises it, names the right link, and is not found a level earlier."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.examples import content_digest
from curation.jsonl import read_jsonl
from curation.records import SCHEMA, write_table
from pipelines.provenance.cache import check_cache
from pipelines.provenance.lineage import read_json, write_json
from pipelines.provenance.lock import read_lock
from pipelines.provenance.revision import open_revision
from pipelines.provenance.verify import LEVELS, Level
from tests.provenance.lab import Lab

pytestmark = pytest.mark.pipeline
SCORE, DETAIL = "reports/eq/sft-100.json", "reports/eq/sft-100.detail.json"
RATINGS, COMPARISON, HEADLINE = "reports/eq/sft-100.ratings.jsonl", "reports/comparison.json", "reports/metrics.json"
TABLE = "reports/scores.json"
MIXTURE, RESPONSES = "data/mixture/train.jsonl", "data/responses/sft-100.jsonl"
ADAPTER = "models/sft-100"


@dataclass(frozen=True)
class Forgery:
    """What is forged, and where it must show: level, verdict, link, a part of the message, whose verdict."""

    name: str
    forge: Callable[[Lab], object]
    level: Level
    kind: str
    link: str
    said: str = ""
    subject: str = "sft-100"


def higher(path: str, key: str = "index") -> Callable[[Lab], None]:
    def forge(lab: Lab) -> None:
        score = read_json(Path(path))
        lab.edit_json(path, **{key: round(score[key] + 0.01, 6)})

    return forge


def better_column(lab: Lab) -> None:
    row = read_json(Path(TABLE))["sft-100"]
    lab.edit_json(TABLE, **{"sft-100": {**row, "index": round(row["index"] + 0.01, 6)}})


def then_relock(forge: Callable[[Lab], object], *paths: str) -> Callable[[Lab], None]:
    def both(lab: Lab) -> None:
        forge(lab)
        lab.relock(*paths)

    return both


def better_rating(lab: Lab) -> None:
    def change(rows: list[dict]) -> None:
        row = next(r for r in rows if r["status"] == "rated")
        row["index"] = round(row["index"] + 0.5, 6)

    lab.edit_rows(RATINGS, change)


def hide_degenerate(lab: Lab) -> None:
    """The first degenerate reply becomes one that was rated, means, reports and lock with it."""
    reasons = dict(read_json(Path(DETAIL))["degenerate_by_reason"])

    def change(rows: list[dict]) -> None:
        number = next(n for n, r in enumerate(rows) if r["status"] == "degenerate")
        reasons[rows[number]["reason"]] -= 1
        rows[number] = {**next(r for r in rows if r["status"] == "rated"), "prompt_id": rows[number]["prompt_id"]}

    lab.edit_rows(RATINGS, change)
    lab.edit_json(DETAIL, degenerate_by_reason={k: v for k, v in reasons.items() if v})
    lab.agree_score("sft-100")


def hide_stock_openings(lab: Lab) -> None:
    """Every reply begins in its own way, as its ratings say; means, reports and lock with it."""

    def change(rows: list[dict]) -> None:
        for number, row in enumerate(rows):
            row["opening"] = f"{number:012x}"

    lab.edit_rows(RATINGS, change)
    lab.agree_score("sft-100")


def other_inputs(lab: Lab) -> None:
    inputs = read_json(Path(DETAIL))["inputs"]
    inputs[RESPONSES]["md5"] = "0" * 32
    lab.edit_json(DETAIL, inputs=inputs)


def other_sha256(path: str) -> Callable[[Lab], None]:
    def forge(lab: Lab) -> None:
        inputs = read_json(Path(DETAIL))["inputs"]
        inputs[path]["sha256"] = "0" * 64
        lab.edit_json(DETAIL, inputs=inputs)
        lab.relock(DETAIL)

    return forge


def forget_dep(stage: str, path: str) -> Callable[[Lab], None]:
    def change(stages: dict) -> None:
        stages[stage]["deps"] = [d for d in stages[stage]["deps"] if d["path"] != path]

    return lambda lab: lab.edit_lock(change)


def remove_stage(lab: Lab) -> None:
    """``check`` never was: out of dvc.yaml and out of the training's dependencies there."""
    text = lab.project.read("dvc.yaml")
    head, _, rest = text.partition("  check:\n")
    _, end, tail = rest.partition("\n  compare:\n")
    lab.project.write("dvc.yaml", head + end.removeprefix("\n") + tail)
    lab.edit("dvc.yaml", "      - reports/check.json\n", "")


def commit_by_force(path: str, *stages: str) -> Callable[[Lab], None]:
    def forge(lab: Lab) -> None:
        if Path(path).is_dir():
            lab.flip(Path(path, "adapter_model.safetensors"))
        else:
            lab.edit(path, "Yesterday", "Yesterdaz")
        for stage in stages:
            lab.project.dvc("commit", "-f", "-q", stage)
        assert "sft@sft-100" not in lab.project.dvc("status", "sft@sft-100").stdout

    return forge


def take_scores_of_the_other(lab: Lab) -> None:
    """sft-150's evidence under sft-100's name."""
    for ending in (".json", ".detail.json", ".ratings.jsonl"):
        shutil.copyfile(f"reports/eq/sft-150{ending}", f"reports/eq/sft-100{ending}")
    lab.relock(SCORE, DETAIL, RATINGS)


def retrain_without_scoring(lab: Lab) -> None:
    """The adapter changes as it does when only training runs again; the score stays."""
    lab.flip(Path(ADAPTER, "adapter_model.safetensors"))
    md5 = lab.md5(ADAPTER)
    lab.relock(ADAPTER)

    def change(stages: dict) -> None:
        for name, stage in stages.items():
            for dep in stage.get("deps", []):
                if dep["path"] == ADAPTER and name.startswith("respond@"):
                    dep["md5"] = md5

    lab.edit_lock(change)


def other_judge(lab: Lab) -> None:
    lab.flip("models/judge/head.safetensors")
    card = read_json(Path("models/judge/card.json"))
    write_json(Path("models/judge/card.json"), {**card, "limits": []})
    lab.relock("models/judge")


def praise_judge(lab: Lab) -> None:
    lab.edit_json("reports/judge.json", label="validated")
    lab.relock("reports/judge.json")
    inputs = read_json(Path(DETAIL))["inputs"]
    from pipelines.provenance.hashing import hash_path

    inputs["reports/judge.json"] = hash_path(Path("reports/judge.json")).as_dict()
    lab.edit_json(DETAIL, inputs=inputs)
    lab.relock(DETAIL)


def merge_locks(lab: Lab) -> None:
    """The lock of another branch for the mixture, this one's for the rest."""
    theirs = read_lock(open_revision("partial"))

    def change(stages: dict) -> None:
        for name in ("mix", "check"):
            stages[name] = theirs.stages[name]

    lab.edit_lock(change)
    lab.project.run(
        "git", "checkout", "-q", "partial", "--", "params.yaml", "reports/mixture.json", "reports/check.json"
    )


def merge_theirs(lab: Lab) -> None:
    """A merge in which the lock is theirs and the reports are ours."""
    lab.project.run("git", "checkout", "-q", "partial", "--", "dvc.lock", "params.yaml")


def better_difference(lab: Lab) -> None:
    found = read_json(Path(COMPARISON))
    found["contrasts"][0]["difference"] += 0.2
    write_json(Path(COMPARISON), found)


def better_sentence(lab: Lab) -> None:
    found = read_json(Path(COMPARISON))
    found["contrasts"][0]["verdict"] = "improved, clearly"
    write_json(Path(COMPARISON), found)


def lineage_edit(stage: str, change: Callable[[dict], None]) -> Callable[[Lab], None]:
    """An edit inside a lineage that everything after it agrees with."""

    def forge(lab: Lab) -> None:
        from tests.provenance.lab import LINEAGES

        path = Path(*LINEAGES[stage])
        lineage = read_json(path)
        change(lineage)
        write_json(path, lineage)
        lab.agree()

    return forge


def wrong_parent(lab: Lab) -> None:
    path = Path("models/sft-150/lineage.json")
    lineage = read_json(path)
    lineage["parent"]["lineage"]["hardware"]["processor"] = "another"
    write_json(path, lineage)
    lab.relock("models/sft-150")
    responses = Path("data/responses/sft-150.lineage.json")
    found = read_json(responses)
    from pipelines.provenance.hashing import hash_path

    found["inputs"]["models/sft-150"] = hash_path(Path("models/sft-150")).as_dict()
    found["parent"]["lineage"] = lineage
    write_json(responses, found)
    lab.relock("data/responses/sft-150.lineage.json")
    lab.agree_score("sft-150")


def other_consumed(lab: Lab) -> None:
    for name, key in (("consumed.json", None), ("lineage.json", "consumed_rows")):
        path = Path(ADAPTER, name)
        content = read_json(path)
        (content[key] if key else content)["uids_sha256"] = "0" * 64
        if key:
            content["consumed"] = "0" * 64
        write_json(path, content)
    lab.agree()


def skipped_rows(lab: Lab) -> None:
    """sft-150 says that it went on two rows after its parent's end."""
    for name, key in (("consumed.json", None), ("lineage.json", "consumed_rows")):
        path = Path("models/sft-150", name)
        content = read_json(path)
        (content[key] if key else content)["first_row"] += 2
        write_json(path, content)
    lab.agree()


def reorder(lab: Lab) -> None:
    lab.edit_rows(MIXTURE, lambda rows: rows.reverse())
    lab.relock(MIXTURE)
    lab.agree()


def reword_training(lab: Lab) -> None:
    """A row with another uid, receipt and all hashes agreeing: the consumed digests do not."""

    def change(rows: list[dict]) -> None:
        rows[0]["uid"] = "0" * 64 + "-0-1"

    lab.edit_rows(MIXTURE, change)
    lab.edit_json("reports/mixture.json", examples_sha256=content_digest(read_jsonl(Path(MIXTURE))))
    lab.relock(MIXTURE, "reports/mixture.json")
    lab.agree()


def reword_record(lab: Lab) -> None:
    path = Path("data/records/goemotions.parquet")
    rows = pq.read_table(path).to_pylist()
    rows[0]["turns"][0]["text"] += " indeed"
    write_table(pa.Table.from_pylist(rows, schema=SCHEMA), path)
    lab.relock("data/records")


def reword_raw(lab: Lab) -> None:
    lab.edit("data/raw/goemotions/train.tsv", "Nobody", "Somebody")
    lab.relock("data/raw")


def swap_raw(lab: Lab) -> None:
    path = lab.base / "corpora/goemotions/train.tsv"
    path.write_text(path.read_text().replace("Nobody", "Somebody"))


def remove_raw(lab: Lab) -> None:
    (lab.base / "corpora/goemotions/train.tsv").unlink()


def reword_prompt(lab: Lab) -> None:
    lab.edit("data/prompts.jsonl", "Yesterday", "Yesterdaz")
    lab.relock("data/prompts.jsonl")


def swap_responses(lab: Lab) -> None:
    def change(rows: list[dict]) -> None:
        rows[0]["text"], rows[1]["text"] = rows[1]["text"], rows[0]["text"]

    lab.edit_rows(RESPONSES, change)


def consistent_ratings(lab: Lab) -> None:
    better_rating(lab)
    lab.agree_score("sft-100")


def consistent_response(lab: Lab) -> None:
    """A reply that the model never gave, with the ratings, means, lock and reports that it deserves."""
    from curation.jsonl import write_jsonl
    from pipelines.evaluation.rate import rate_responses
    from pipelines.evaluation.score import break_down

    def change(rows: list[dict]) -> None:
        row = next(r for r in rows if r["finished"])
        row["text"] = "I am so sorry. That sounds very hard. Do you want to talk about it?"

    lab.edit_rows(RESPONSES, change)
    lab.relock(RESPONSES)
    result = rate_responses(Path("data/prompts.jsonl"), Path(RESPONSES), Path("models/judge"))
    write_jsonl(result.rows, Path(RATINGS))
    lab.edit_json(DETAIL, **break_down(read_jsonl(Path("data/prompts.jsonl")), result.rows))
    lab.edit_json(SCORE, mean_words=result.summary["mean_words"])
    lab.agree_score("sft-100")


def damage_cache(lab: Lab) -> None:
    """As root can through a hard link: same size, same name, and DVC restores it."""
    lab.flip(lab.cached(MIXTURE))
    lab.flip(MIXTURE)


def other_emotions(lab: Lab) -> None:
    detail = read_json(Path(DETAIL))
    detail["by_emotion"]["sad"]["index"] += 0.3
    write_json(Path(DETAIL), detail)
    lab.relock(DETAIL)


FORGERIES = [
    Forgery("a digit in a metric", higher(SCORE), "chain", "broken", SCORE, "score@sft-100 wrote"),
    Forgery("a digit, lock agrees", then_relock(higher(SCORE), SCORE), "chain", "broken", f"{SCORE}:index", "ratings"),
    Forgery(
        "the degenerate rate, lock agrees", then_relock(higher(SCORE, "degenerate_rate"), SCORE), "chain", "broken",
        f"{SCORE}:degenerate_rate", "its ratings give",
    ),
    Forgery("an interval, lock agrees", then_relock(higher(SCORE, "ci_low"), SCORE), "chain", "broken", f"{SCORE}:ci_low"),
    Forgery("a rating", better_rating, "chain", "broken", RATINGS),
    Forgery("a rating, lock agrees", then_relock(better_rating, RATINGS), "chain", "broken", f"{SCORE}:ci_high"),
    Forgery("no mixture named", then_relock(lambda lab: lab.edit_json(SCORE, mixture="none"), SCORE), "chain", "broken",
            f"{SCORE}:mixture", "the score names mixture none"),
    Forgery("another dev set named", then_relock(lambda lab: lab.edit_json(SCORE, dev="0" * 32), SCORE), "chain",
            "broken", f"{SCORE}:dev"),
    Forgery("no consumed rows named", then_relock(lambda lab: lab.edit_json(SCORE, consumed="none"), SCORE), "chain",
            "broken", f"{SCORE}:consumed"),
    Forgery("another judge named", then_relock(lambda lab: lab.edit_json(SCORE, judge="people"), SCORE), "chain",
            "broken", "reports/judge.json", "the score names the judge 'people'"),
    Forgery("other inputs named", then_relock(other_inputs, DETAIL), "chain", "broken", RESPONSES),
    Forgery("other code named", then_relock(lambda lab: lab.edit_json(DETAIL, code="0" * 64), DETAIL), "chain",
            "broken", "score@sft-100: code"),
    Forgery("another sha256 of a report", other_sha256("reports/judge.json"), "chain", "broken", "reports/judge.json"),
    Forgery("another model's score", take_scores_of_the_other, "chain", "broken", RESPONSES),
    Forgery("an older adapter's score", retrain_without_scoring, "chain", "stale", ADAPTER, "has since written"),
    Forgery("a param without a run", lambda lab: lab.edit("params.yaml", "steps: 4", "steps: 400"), "chain", "stale",
            "params.yaml:checkpoints.sft-100"),
    Forgery("code without a run", lambda lab: lab.edit("dvc_stages/mix.py", "import", "import  "), "chain", "stale",
            "dvc_stages/mix.py"),
    Forgery("a library lock without a run", lambda lab: lab.edit("requirements/training.txt", "torch==", "torch==9"),
            "chain", "stale", "requirements/training.txt", "sft@sft-100 ran with"),
    Forgery("a stage skipped", merge_locks, "chain", "stale", MIXTURE, "mix has since written"),
    Forgery("a lock merged with other reports", merge_theirs, "chain", "broken", "reports/mixture.json"),
    Forgery("a stage out of the lock", lambda lab: lab.edit_lock(lambda s: s.pop("check")), "chain", "incomplete",
            "dvc.lock", "no entry of check"),
    Forgery("a stage out of dvc.yaml", remove_stage, "chain", "stale", "reports/check.json"),
    Forgery("a dependency out of the lock", forget_dep("sft@sft-100", "reports/check.json"), "chain", "stale",
            "reports/check.json", "dvc.yaml lists the dependency"),
    Forgery("dvc commit -f of a mixture", commit_by_force(MIXTURE, "mix", "check", "sft@sft-100"), "chain", "broken",
            f"{SCORE}:mixture"),
    Forgery("dvc commit -f of an adapter", commit_by_force(ADAPTER, "sft@sft-100", "respond@sft-100"), "chain",
            "broken", f"{SCORE}:adapter"),
    Forgery("a judge replaced", other_judge, "chain", "broken", "models/judge"),
    Forgery("a judge praised", praise_judge, "chain", "broken", "reports/judge.json", "(validated)"),
    Forgery("a prompt reworded", reword_prompt, "chain", "broken", "data/prompts.jsonl"),
    Forgery("a receipt", lambda lab: lab.edit_json("reports/mixture.json", size=99), "chain", "broken",
            "reports/mixture.json"),
    Forgery("a comparison, lock agrees", then_relock(better_difference, COMPARISON), "chain", "broken",
            f"{COMPARISON}:contrasts[0].difference", subject=COMPARISON),
    Forgery("a verdict in words, lock agrees", then_relock(better_sentence, COMPARISON), "chain", "broken",
            f"{COMPARISON}:contrasts[0].verdict", "clearly", subject=COMPARISON),
    Forgery("the headline, lock agrees", then_relock(higher(HEADLINE), HEADLINE), "chain", "broken", HEADLINE,
            "is not the score of base", subject=f"{HEADLINE}, {TABLE}"),
    Forgery("a column of DVC's table, lock agrees", then_relock(better_column, TABLE), "chain", "broken", f"{TABLE}:sft-100",
            "its score file", subject=f"{HEADLINE}, {TABLE}"),
    Forgery("one byte of the mixture", lambda lab: lab.flip(MIXTURE), "data", "broken", MIXTURE, "mix wrote"),
    Forgery("one byte of an adapter", lambda lab: lab.flip(Path(ADAPTER, "adapter_model.safetensors")), "data",
            "broken", ADAPTER, "adapter_model.safetensors is not what was recorded"),
    Forgery("two responses swapped", swap_responses, "data", "broken", RESPONSES),
    Forgery("a damaged cache object", damage_cache, "data", "broken", MIXTURE),
    Forgery("another sha256 of responses", other_sha256(RESPONSES), "data", "broken", RESPONSES, "its bytes have"),
    Forgery("params in a lineage", lineage_edit("sft@sft-100", lambda x: x["params"]["sft"].update(seed=7)), "data",
            "broken", "models/sft-100/lineage.json:params.sft.seed"),
    Forgery("code in a lineage", lineage_edit("respond@sft-100", lambda x: x.update(code="0" * 64)), "data", "broken",
            "data/responses/sft-100.lineage.json:code"),
    Forgery("a lineage of another stage", lineage_edit("respond@sft-100", lambda x: x.update(stage="respond@base")),
            "data", "broken", "data/responses/sft-100.lineage.json:stage"),
    Forgery("a parent's lineage", wrong_parent, "data", "broken", "models/sft-150/lineage.json:parent", "parent",
            "sft-150"),
    Forgery("other consumed rows", other_consumed, "data", "broken", "models/sft-100/consumed.json", "rows 0 to 7"),
    Forgery("rows left out between parent and child", skipped_rows, "data", "broken", "models/sft-150/consumed.json",
            "its parent ends before row 8", "sft-150"),
    Forgery("a mixture in another order", reorder, "data", "broken", "reports/mixture.json:examples_sha256"),
    Forgery("a training row exchanged", reword_training, "data", "broken", "models/sft-100/consumed.json"),
    Forgery("a record reworded", reword_record, "data", "broken", "data/records/goemotions.parquet", "row 1"),
    Forgery("a raw file reworded", reword_raw, "data", "broken", "data/raw/goemotions/train.tsv", "its manifest says"),
    Forgery("a raw file outside swapped", swap_raw, "data", "stale", "raw:goemotions/train.tsv", "raw read"),
    Forgery("a raw file outside removed", remove_raw, "data", "stale", "raw:goemotions", "train.tsv"),
    Forgery("ratings, means and lock", consistent_ratings, "rescore", "broken", RATINGS, "the recorded judge gives"),
    Forgery("a degenerate reply hidden", hide_degenerate, "rescore", "broken", RATINGS),
    Forgery("stock openings hidden", hide_stock_openings, "rescore", "broken", RATINGS, "the recorded judge gives"),
    Forgery("the mean length", then_relock(higher(SCORE, "mean_words"), SCORE), "rescore", "broken",
            f"{SCORE}:mean_words", "the responses give"),
    Forgery("a breakdown, lock agrees", other_emotions, "rescore", "broken", f"{DETAIL}:by_emotion.sad.index"),
    Forgery("a reply with everything after it", consistent_response, "regenerate", "broken", RESPONSES,
            "1 of 8 replies are not what the recorded model says"),
]  # fmt: skip


def test_there_are_at_least_thirty_and_each_is_another() -> None:
    assert len({f.name for f in FORGERIES}) == len(FORGERIES) >= 30


@pytest.mark.parametrize("forgery", FORGERIES, ids=lambda f: f.name)
def test_a_forgery_is_caught_at_its_level_and_not_before(lab: Lab, forgery: Forgery) -> None:
    forgery.forge(lab)
    depth = LEVELS.index(forgery.level)
    if depth:
        before = lab.look(LEVELS[depth - 1])[forgery.subject]
        assert before.verdict == "verified", before.first
    found = lab.look(forgery.level)[forgery.subject]
    assert found.verdict == forgery.kind, found.faults
    named = [f for f in found.faults if f.kind == forgery.kind and f.link.startswith(forgery.link)]
    assert named, [(f.kind, f.link) for f in found.faults]
    assert any(forgery.said in f.message for f in named), [f.message for f in named]
    assert named[0].next


def test_a_damaged_cache_object_is_found_from_its_commit_and_by_its_name(lab: Lab) -> None:
    lab.flip(lab.cached(MIXTURE))
    assert lab.look("chain", "HEAD")["sft-100"].verdict == "verified"
    first = lab.look("data", "HEAD")["sft-100"].first
    assert first is not None
    assert (first.kind, first.link) == ("broken", MIXTURE)
    assert lab.look("data")["sft-100"].verdict == "verified"
    found = check_cache(read_lock(open_revision("HEAD")))
    assert [(f.kind, f.link) for f in found.faults] == [("broken", MIXTURE)]


def test_a_file_changed_while_a_stage_runs_never_gets_into_the_lock(lab: Lab) -> None:
    import time

    lock = lab.project.read("dvc.lock")
    lab.project.write("hold", "")
    lab.edit("dvc_stages/curate.py", '"""', '"""Again. ')
    process = lab.project.start("dvc", "repro", "-s", "curate")
    while not Path("held").exists():
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)
    lab.edit("dvc_stages/curate.py", "Again. ", "Other. ")
    Path("hold").unlink()
    output = process.communicate(timeout=60)[0]
    assert process.returncode
    assert "dvc_stages/curate.py changed while the stage ran" in output
    assert not Path("data/clean/train.parquet").exists()
    assert lab.project.read("dvc.lock") == lock
    assert lab.look()["sft-100"].verdict == "stale"


def test_a_rewrite_in_which_everything_agrees_is_what_no_level_finds(lab: Lab) -> None:
    """The limit that the help states: a text changed in the training rows, and every digest after it."""
    lab.edit(MIXTURE, "Yesterday", "Yesterdaz")
    lab.edit_json("reports/mixture.json", examples_sha256=content_digest(read_jsonl(Path(MIXTURE))))
    lab.relock(MIXTURE, "reports/mixture.json")
    lab.agree()
    assert {v.verdict for v in lab.look("rescore").values()} == {"verified"}


def test_a_fault_is_told_as_json(lab: Lab) -> None:
    from typer.testing import CliRunner

    from heartwood.cli import app

    higher(SCORE)(lab)
    done = CliRunner().invoke(app, ["verify", "--json"])
    assert done.exit_code == 1
    found = {v["model"]: v for v in json.loads(done.stdout)["workspace"]["scores"]}
    assert found["sft-100"]["verdict"] == "broken"
    assert found["sft-100"]["faults"][0]["link"] == SCORE
    assert found["base"]["verdict"] == "verified"
    told = " ".join(CliRunner().invoke(app, ["verify"]).stdout.split())
    assert "sft-100: broken" in told
    assert "next: git checkout -- reports/eq/sft-100.json" in told
