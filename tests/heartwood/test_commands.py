import json
import re
from dataclasses import asdict
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result

from curation.dedup import DedupSettings
from curation.errors import HeartwoodError
from curation.leakage import LeakageSettings
from heartwood.cli import app, told_plainly
from tests.project import Project

LONG = "the dog was hit by a car on monday and i held him in my arms"


def heartwood(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def rows(path: Path, *texts: str) -> Path:
    path.write_text("".join(json.dumps({"text": t}) + "\n" for t in texts), encoding="utf-8")
    return path


def test_every_verb_has_help_and_its_exit_codes():
    listed = heartwood("--help").stdout
    for verb in (
        "scores",
        "verify",
        "models",
        "dedup",
        "leaks",
        "explain",
        "flow",
        "diff",
        "mixtures",
        "confirm",
        "judge",
    ):
        assert re.search(rf"^  {verb}  ", listed, re.MULTILINE)
        assert heartwood(verb, "--help").exit_code == 0
    for verb in ("verify", "models", "dedup", "leaks", "explain", "flow", "diff", "mixtures", "confirm", "judge"):
        assert "Exit code 0" in " ".join(heartwood(verb, "--help").stdout.split())


def test_the_defaults_in_the_help_are_those_of_the_library():
    wanted = {
        "dedup": (asdict(DedupSettings()), {"near": "near_jaccard", "cosine": "semantic_cosine"}),
        "leaks": (asdict(LeakageSettings()), {"contained": "contained_share", "cosine": "semantic_cosine"}),
    }
    for verb, (settings, names) in wanted.items():
        text = " ".join(heartwood(verb, "--help").stdout.split())
        for option, name in {**names, "ngram": "shingle_words", "generic-words": "generic_words"}.items():
            found = re.search(rf"--{option} <.*?default: \((.*?)\)", text)
            assert found is not None
            assert float(found[1]) == settings[name]


def test_dedup_prints_pairs_and_keeps_the_other_rows(tmp_path):
    source = rows(tmp_path / "a.jsonl", LONG, LONG.upper(), "ok", "something else entirely is said")
    with source.open("a") as handle:
        handle.write("{broken\n")
    kept, pairs = tmp_path / "kept.jsonl", tmp_path / "pairs.parquet"
    done = heartwood("dedup", source, "--no-semantic", "--keep", kept, "--output", pairs)
    assert done.exit_code == 0, done.output
    assert "5 rows = 4 compared + 1 unusable (not_json 1; the first:" in " ".join(done.stdout.split())
    assert "4 compared = 3 kept + 1 removed (dedup-exact-v1 1)" in done.stdout
    [pair] = pq.read_table(pairs).to_pylist()
    assert {pair["removed_text"], pair["surviving_text"]} == {LONG, LONG.upper()}
    lines = source.read_text().splitlines()
    del lines[pair["removed_row"] - 1]
    assert kept.read_text().splitlines() == lines


def test_dedup_as_json_counts_label_conflicts(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_text(f"{LONG}\tsad\n{LONG}\tglad\n{LONG}\tsad\n")
    done = heartwood("dedup", path, "--label-column", 2, "--no-semantic", "--json")
    found = json.loads(done.stdout)
    assert (found["rows"], found["kept"], found["removed"], found["label_conflict_groups"]) == (3, 2, 1, 1)
    assert found["files"] == [{"file": str(path), "rows": 3, "compared": 3, "read": "column 1, no header"}]
    assert found["settings"] == {**asdict(DedupSettings()), "semantic": False}
    assert found["pairs"][0]["removed_row"] == 3


def test_bad_quoting_names_the_way_out(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(f'text\n{LONG}\n"two" words\n')
    assert "say --no-quoting" in " ".join(heartwood("dedup", path, "--no-semantic").stdout.split())
    assert "0 unusable" in heartwood("dedup", path, "--no-semantic", "--no-quoting").stdout


def test_leaks_as_json_is_one_object(tmp_path):
    train = rows(tmp_path / "train.jsonl", LONG, "Thank you!")
    more = rows(tmp_path / "more.jsonl", f"I said: {LONG}. Really.")
    dev = tmp_path / "dev.csv"
    dev.write_text(f'id,text\n1,"{LONG}!"\n2,thank you\n3,nothing of the kind\n4,\n')
    done = heartwood("leaks", "--train", train, more, "--dev", dev, "--no-semantic", "--json")
    found = json.loads(done.stdout)
    assert (found["train_rows"], found["dev_rows"]) == (3, 4)
    assert found["leaked_dev_rows"] == {"exact": 2, "contained": 0, "semantic": 0, "any": 2, "generic": 1}
    assert found["dev"]["unusable_by_reason"] == {"empty": 1}
    pair = found["pairs"][0]
    assert (pair["dev_row"], pair["train_row"], pair["kind"], pair["score"]) == (1, 1, "exact", 1.0)
    assert (pair["dev_text"], pair["train_text"], pair["generic"]) == (f"{LONG}!", LONG, False)
    assert [(p["train_file"], p["train_row"]) for p in found["pairs"]] == [(str(train), 1), (str(train), 2)]


def test_leaks_fails_only_when_asked_to(tmp_path):
    train, dev = rows(tmp_path / "train.jsonl", "Thank you!"), rows(tmp_path / "dev.jsonl", "thank you", LONG)
    arguments = ("leaks", "--train", train, "--dev", dev, "--no-semantic")
    assert [heartwood(*arguments, "--fail-on", x).exit_code for x in ("never", "substantive", "any")] == [0, 0, 3]
    rows(train, LONG)
    assert heartwood(*arguments, "--fail-on", "substantive").exit_code == 3
    done = heartwood(*arguments)
    assert "dev rows that repeat train: 1 (exact 1, contained 0, semantic not looked for)" in " ".join(
        done.stdout.split()
    )
    assert "dev row 2 repeats train row 1 (exact, 1.000)" in done.stdout


def test_what_is_printed_fits_80_columns(tmp_path):
    train = rows(tmp_path / "train.jsonl", "字" * 200 + " one two three four five six seven " + "x" * 300)
    for arguments in (("leaks", "--train", train, "--dev", train), ("dedup", train, train.with_suffix(".ndjson"))):
        rows(train.with_suffix(".ndjson"), "y " * 200, "Y " * 200)
        done = heartwood(*arguments, "--no-semantic")
        assert done.exit_code == 0, done.output
        assert "\x1b" not in done.stdout
        for line in done.stdout.splitlines():
            assert len(line) <= 80 or str(tmp_path) in line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("dedup", "{tmp}/none.csv"), "none.csv: no such file"),
        (("dedup", "{tmp}/a.jsonl", "{tmp}/../{name}/a.jsonl"), "a.jsonl: named twice"),
        (("dedup", "{tmp}/a.jsonl", "--keep", "{tmp}/a.jsonl"), "is one of the inputs"),
        (("dedup", "{tmp}/a.jsonl", "--keep", "{tmp}/b.csv"), "the input is jsonl"),
        (("dedup", "{tmp}/a.jsonl", "--output", "{tmp}/a.jsonl"), "is one of the other files"),
        (("dedup", "{tmp}/a.jsonl", "--output", "{tmp}/b.txt"), "allowed: .jsonl, .csv, .parquet"),
        (("dedup", "{tmp}/a.jsonl", "--text-column", "nope"), "no column 'nope'; it has 'text'"),
        (("leaks", "--train", "{tmp}/a.jsonl", "--dev", "{tmp}/empty.jsonl"), "none of its 0 rows can be used"),
        (("explain", "0123456789"), "data/records: missing"),
        (("flow",), "not inside a git repository"),
    ],
)
def test_errors_are_one_message_and_the_next_step(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    rows(tmp_path / "a.jsonl", LONG)
    (tmp_path / "empty.jsonl").touch()
    done = heartwood(*(a.format(tmp=tmp_path, name=tmp_path.name) for a in arguments))
    assert done.exit_code == 1
    assert message in done.stderr
    assert "\n  next: " in done.stderr
    assert "Traceback" not in done.output
    assert done.stdout == ""


def test_usage_errors_exit_2(tmp_path):
    for arguments in ((), ("dedup",), ("leaks", "--train", "a.csv"), ("dedup", "a.csv", "--near", "1.5"), ("explain",)):
        assert heartwood(*arguments).exit_code == 2


def test_an_error_of_the_project_exits_1_and_others_are_not_hidden():
    def bad() -> None:
        raise HeartwoodError("wrong", hint="right it")

    def worse() -> None:
        raise KeyError("a bug")

    with pytest.raises(Exception) as caught:  # noqa: PT011
        told_plainly(bad)()
    assert caught.value.exit_code == 1  # type: ignore[attr-defined]
    with pytest.raises(KeyError):
        told_plainly(worse)()


def test_flow_reads_a_commit_and_its_exit_code_says_whether_it_adds_up(tmp_path):
    from tests.small_project import small_reports

    made = Project(tmp_path / "project", tmp_path / "state")
    made.folder.mkdir()
    made.run("git", "init", "-q", "-b", "main")
    reports = small_reports()
    for name, report in reports.items():
        made.write(f"reports/{name}.json", json.dumps(report))
    made.commit()

    def flow(*arguments: str) -> tuple[int, str]:
        command = ("-c", "from heartwood.cli import app; app()", "flow", *arguments)
        done = made.run(made.env.get("PYTHON", "python"), *command, check=False)
        return done.returncode, done.stdout + done.stderr

    code, text = flow("main")
    assert (code, "It adds up." in text) == (0, True), text
    reports["split"]["train"]["one"] += 1
    made.write("reports/split.json", json.dumps(reports["split"]))
    assert flow("main")[0] == 0
    code, text = flow()
    assert code == 1
    assert "DOES NOT ADD UP: split, one: train, dev, test and removed is 11, records is 10" in " ".join(text.split())
    assert json.loads(flow("--json")[1])["adds_up"] is False
    (made.folder / "reports/mixture.json").unlink()
    made.write("reports/split.json", json.dumps(small_reports()["split"]))
    code, text = flow("--markdown")
    assert code == 2
    assert "Not there: reports/mixture.json" in text
