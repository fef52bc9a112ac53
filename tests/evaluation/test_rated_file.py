import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from benchmarks.judge_esconv import Reply, read_chats, relate
from curation.errors import HeartwoodError
from heartwood.cli import app
from pipelines.evaluation.judges.epitome import EpitomeJudge, Rating
from pipelines.evaluation.judges.rated_file import agreement_with_people, rate_pairs, read_pairs
from pipelines.evaluation.score import DEGENERATE, RATED

SEEKER = "I lost my job and I feel worthless."


class Counting:
    """Rates by the number of question marks."""

    def rate(self, pairs: Sequence[tuple[str, str]]) -> list[Rating]:
        return [Rating(0.0, 0.0, float(min(2, reply.count("?"))), 1.0 + min(2, reply.count("?"))) for _, reply in pairs]


def write(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    elif path.suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.Table.from_pylist(list(rows)), path)
    else:
        with path.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    return path


def rows(count: int = 12) -> list[dict[str, Any]]:
    return [
        {
            "seeker_post": f"{SEEKER} Day {i}.",
            "response_post": f"That is hard{' ?' * (i % 3)}",
            "explorations": i % 3 if i != 1 else 2,
        }
        for i in range(count)
    ]


@pytest.mark.parametrize("name", ["pairs.jsonl", "pairs.csv", "pairs.parquet"])
def test_every_format_gives_the_same_rows_and_agreement(tmp_path: Path, name: str) -> None:
    found = read_pairs(write(tmp_path / name, rows()))
    assert [row.number for row in found.rows] == list(range(1, 13))
    assert found.labelled == ("explorations",)
    rated = rate_pairs(Counting(), found.rows)
    agreed = agreement_with_people(found.rows, rated, found.labelled, seed=0)
    assert agreed["explorations"]["ratings"] == 12
    assert agreed["explorations"]["accuracy"] == pytest.approx(11 / 12)
    assert agreed["explorations"]["confusion"][2] == [0, 1, 4]


def test_epitomes_level_is_of_the_mechanism_that_the_file_names(tmp_path: Path) -> None:
    made = [{"seeker_post": SEEKER, "response_post": "Why?", "level": level} for level in (0, 2)]
    assert read_pairs(write(tmp_path / "interpretations-reddit.csv", made)).labelled == ("interpretations",)
    other = write(tmp_path / "mine.csv", made)
    assert read_pairs(other, "explorations").labelled == ("explorations",)
    with pytest.raises(HeartwoodError, match="of which mechanism") as caught:
        read_pairs(other)
    assert "--mechanism" in caught.value.hint


def test_rows_that_cannot_be_rated_are_named(tmp_path: Path) -> None:
    made = rows(4)
    made[0]["seeker_post"] = " "
    made[1]["response_post"] = None
    made[2]["explorations"] = 3
    path = write(tmp_path / "pairs.jsonl", made)
    with path.open("a", encoding="utf-8") as stream:
        stream.write("{not json\n")
    found = read_pairs(path)
    assert [(bad.row, bad.reason) for bad in found.unusable] == [
        (1, "no_seeker"),
        (2, "no_reply"),
        (3, "bad_level"),
        (5, "not_json"),
    ]
    assert [row.number for row in found.rows] == [4]
    with pytest.raises(HeartwoodError, match="no column 'response_post'"):
        read_pairs(write(tmp_path / "other.csv", [{"seeker_post": "a", "text": "b"}]))
    with pytest.raises(HeartwoodError, match="no usable row; the first: row 1"):
        read_pairs(write(tmp_path / "empty.jsonl", [{"seeker_post": "", "response_post": "b"}]))


def test_gated_replies_are_degenerate_and_count_as_level_0(tmp_path: Path) -> None:
    made = [{"seeker_post": SEEKER, "response_post": reply, "explorations": 1} for reply in ("", SEEKER, "Why so?")]
    found = read_pairs(write(tmp_path / "pairs.jsonl", made))
    rated = rate_pairs(Counting(), found.rows)
    assert [(r["status"], r["reason"], r["index"]) for r in rated] == [
        (DEGENERATE, "empty", 1.0),
        (DEGENERATE, "echo", 1.0),
        (RATED, None, 2.0),
    ]
    agreed = agreement_with_people(found.rows, rated, found.labelled, seed=0)
    assert agreed["explorations"]["confusion"][1] == [2, 1, 0]


def test_the_verb_prints_rates_and_writes(repo_root: Path, tmp_path: Path) -> None:
    path, out = write(tmp_path / "pairs.jsonl", rows(6)), tmp_path / "ratings.csv"
    options = ["judge", str(path), "--judge", str(repo_root / "models/judge_head")]
    done = CliRunner().invoke(app, [*options, "--json", "--out", str(out)])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert (found["rows"], found["rated"], found["in_sample"]) == (6, 6, False)
    assert found["label"] in ("validated", "exploratory")
    assert all(1 <= row["index"] <= 5 for row in found["ratings"])
    assert set(found["agreement"]) == {"explorations"}
    with out.open(encoding="utf-8") as stream:
        assert [float(row["index"]) for row in csv.DictReader(stream)] == [row["index"] for row in found["ratings"]]
    plain = CliRunner().invoke(app, options)
    assert plain.exit_code == 0
    assert found["judge"] in plain.stdout
    assert "kappa" in plain.stdout
    alike = found["stock_opening"]
    said = f"{100 * alike['rate']:.1f} % of the replies begin with the same three words"
    assert said in " ".join(plain.stdout.split())
    assert max(map(len, plain.stdout.splitlines())) <= 80
    missing = CliRunner().invoke(app, ["judge", str(tmp_path / "no.csv"), *options[2:]])
    assert missing.exit_code == 1


def test_esconvs_ratings_are_set_beside_index_and_length(tmp_path: Path) -> None:
    def chat(number: int) -> dict[str, Any]:
        asked = "?" * (number % 3)
        return {
            "survey_score": {"seeker": {"empathy": str(1 + number % 3)}},
            "dialog": [
                {"speaker": "supporter", "content": "Hello", "annotation": {}},
                {"speaker": "seeker", "content": f"Chat {number} is about my job.", "annotation": {}},
                {"speaker": "supporter", "content": "What was", "annotation": {}},
                {"speaker": "supporter", "content": f"that like{asked}", "annotation": {}},
                {"speaker": "seeker", "content": "Bad.", "annotation": {"feedback": str(1 + number % 3)}},
            ],
        }

    path = tmp_path / "ESConv.json"
    path.write_text(json.dumps([*(chat(n) for n in range(24)), {"survey_score": {}, "dialog": []}]), encoding="utf-8")
    replies, empathy = read_chats(path, None)
    assert len(replies) == len(empathy) == 24
    assert {type(r) for r in replies} == {Reply}
    assert all(r.text.startswith("What was that like") and r.feedback == empathy[r.chat] for r in replies)
    found = relate(Counting(), replies, empathy)
    assert found["chat_empathy"]["index"]["rho"] == pytest.approx(1.0)
    assert found["chat_empathy"]["words"]["rho"] is None
    assert found["reply_feedback"]["index"]["low"] == pytest.approx(1.0)
    with pytest.raises(HeartwoodError, match="cannot be read"):
        read_chats(tmp_path / "none.json", None)


def test_a_judge_is_what_scoring_asks_for() -> None:
    from pipelines.evaluation.score import Judge

    judge: Judge = EpitomeJudge({})
    assert judge.rate([]) == []
