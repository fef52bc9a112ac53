"""A sweep from the queue to the table to the one use of test, by DVC, with tiny models."""

from __future__ import annotations

import json
import re
import shutil
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from curation.records import write_records
from heartwood.cli import app
from pipelines.experiments.runs import list_experiments, run_experiment
from tests.curation.making import numbered, talk
from tests.project import ROOT, Project
from tests.tiny_model import build_tiny_base, chat_row, write_pointer

pytestmark = pytest.mark.pipeline

PARAMS = """mix:
  size: 10
  seed: 0
  when_short: error
  unit: examples
  temperature: none
  esconv: 0.3
  other: rest
sources:
  esconv:
    format: esconv
  other:
    format: goemotions
chat:
  system: Be kind.
sft:
  seed: 0
prompts:
  count: 6
  seed: 0
  min_words: 4
respond:
  batch_size: 3
  context: 128
  max_new_tokens: 5
  decoding: greedy
  temperature: 0.7
  top_p: 0.9
  seed: 0
  quantisation: none
  device: cpu
  threads: 1
models:
  base: models/base.json
  sft-100: models/sft-100
"""

# Stands for the stages from the mixture to the scores: what it writes depends on the mixture and the seed alone.
STAGE = """
import json, random, shutil
from pathlib import Path
from ruamel.yaml import YAML

from pipelines.provenance.hashing import hash_path
from tests.experiments.making import ratings, summary

params = YAML(typ="safe", pure=True).load(Path("params.yaml").read_text())
mix, seed = params["mix"], params["sft"]["seed"]
share = 0.25 if mix["temperature"] == 1 else mix["esconv"]
mixture = Path("data/mixture/train.jsonl")
mixture.parent.mkdir(parents=True, exist_ok=True)
mixture.write_text(json.dumps([share, mix["seed"]]) + "\\n")
Path("reports/mixture.json").write_text(json.dumps({"requested": {"esconv": share, "other": 1 - share}}))
shutil.copytree(Path("source") / f"adapter-{seed % 2}", "models/sft-100")
shutil.copytree("source/judge_head", "models/judge")
Path("data/split").mkdir(exist_ok=True)
shutil.copyfile("source/test.parquet", "data/split/test.parquet")
Path("data/prompts.jsonl").write_text("{}\\n")
chance, level = random.Random(f"{share}/{seed}"), random.Random(0)
values = [round(level.gauss(3, 0.5) + (share - 0.3) * 4 + chance.gauss(0, 0.2), 6) for _ in range(40)]
Path("reports/eq/sft-100.json").write_text(json.dumps(summary(values, mixture=hash_path(mixture).md5)))
Path("reports/eq/sft-100.ratings.jsonl").write_text("".join(json.dumps(r) + "\\n" for r in ratings(values)))
"""

DVC_YAML = """
stages:
  mix:
    cmd: python make_all.py
    deps:
    - make_all.py
    - source
    params:
    - mix
    - sft
    outs:
    - data/mixture/train.jsonl
    - data/split/test.parquet
    - data/prompts.jsonl
    - models/sft-100
    - models/judge
    - reports/mixture.json:
        cache: false
    - reports/eq/sft-100.json:
        cache: false
    - reports/eq/sft-100.ratings.jsonl:
        cache: false
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The project of the sweep, run once and committed, with a tiny base and two adapters on it."""
    import torch

    from pipelines.sft.train import TrainSettings, train

    folder = tmp_path_factory.mktemp("sweep")
    made = Project(folder / "project", folder / "state")
    source = made.folder / "source"
    build_tiny_base(made.folder / "tiny")
    pointer = write_pointer(made.folder / "tiny", made.folder / "base.json")
    torch.set_num_threads(1)
    for number in range(2):
        settings = TrainSettings(
            steps=2, learning_rate=1e-2, batch_size=2, context=128, lora_rank=4, device="cpu", threads=1, seed=number
        )
        train([chat_row(n) for n in range(4)], pointer, source / f"adapter-{number}", settings, skip=0)
    shutil.copytree(ROOT / "models/judge_head", source / "judge_head")
    held_out = [
        talk(f"I lost my {thing} in the park today.", "Oh no.", split="test", group=thing, emotions=(emotion,))
        for thing, emotion in (("key", "sad"), ("dog", "sad"), ("ring", "angry"), ("hat", "afraid"), ("bag", "angry"))
    ]
    write_records(numbered(held_out), source / "test.parquet")
    made.write("dvc.yaml", DVC_YAML)
    made.write("make_all.py", STAGE)
    made.write("params.yaml", PARAMS)
    made.write(".gitignore", "/data\n/models\n/.heartwood\n")
    (made.folder / "reports/eq").mkdir(parents=True)
    made.run("git", "init", "-q", "-b", "main")
    made.run("git", "config", "user.name", "t")
    made.run("git", "config", "user.email", "t@example.com")
    made.dvc("init", "-q")
    made.dvc("repro", "-q")
    made.commit()
    return made


@pytest.fixture
def swept(made: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.chdir(made.folder)
    for key, value in made.env.items():
        monkeypatch.setenv(key, value)
    return made


def heartwood(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def words(result: Result) -> str:
    return " ".join(result.stdout.split())


def test_the_documented_sweep_and_the_printed_command_give_a_table(swept: Project) -> None:
    alone = heartwood("mixtures")
    assert alone.exit_code == 0, alone.stderr
    assert "Proportional (stratified) mixing, the baseline, is missing. Make it: dvc exp run" in words(alone)
    command = json.loads(heartwood("mixtures", "--json").stdout)["make_proportional_baseline"]
    assert "-S 'sft.seed=0,1,2'" in command

    swept.dvc("exp", "run", "--queue", "-S", "mix.esconv=0.3,0.6", "-S", "sft.seed=0,1,2")
    swept.run("sh", "-c", command)
    swept.dvc("queue", "start")
    deadline = time.monotonic() + 300
    while re.search("Running|Queued", swept.dvc("queue", "status").stdout):
        assert time.monotonic() < deadline
        time.sleep(2)
    found = json.loads(heartwood("mixtures", "--json").stdout)
    assert [(m["letter"], m["proportional"], len(m["runs"])) for m in found["mixtures"]] == [
        ("A", True, 3),
        ("B", False, 3),
        ("C", False, 3),
    ]
    assert found["make_proportional_baseline"] is None
    outcomes = {}
    for row in found["mixtures"][1:]:
        contrast = row["cells"]["sft-100"]["contrast"]
        assert contrast["scope"] == "mixtures"
        outcomes[row["requested"]["esconv"]] = contrast["outcome"]
    assert outcomes[0.6] == "improved"
    [(name, why)] = found["left_out"].items()
    assert (name, why.startswith("the same mixture and seeds as ")) == ("HEAD", True)
    text = words(heartwood("mixtures"))
    assert "reference: A, proportional (proportional-1, proportional-2, proportional-3)" in text
    assert "the best of many on dev is no result" in text
    assert not swept.run("git", "status", "--porcelain").stdout


def test_an_experiment_that_stopped_before_the_scores_is_left_out(swept: Project) -> None:
    made = run_experiment("half", ["mix.esconv=0.5", "sft.seed=7"])
    swept.run("git", "checkout", "-q", made.commit)
    score = json.loads(swept.read("reports/eq/sft-100.json"))
    swept.write("reports/eq/sft-100.json", json.dumps({**score, "mixture": "0" * 32}))
    swept.commit("as if the score were an older one")
    swept.run("git", "update-ref", made.ref, "HEAD")
    swept.run("git", "checkout", "-q", "-f", "main")
    assert "half, not finished: the score of sft-100 was made from another mixture" in words(heartwood("mixtures"))
    swept.dvc("exp", "remove", "half")


def test_confirm_uses_test_once_and_git_remembers(swept: Project) -> None:
    best = next(e for e in list_experiments() if "0.6" in swept.run("git", "show", f"{e.commit}:params.yaml").stdout)
    head = swept.run("git", "rev-parse", "HEAD").stdout
    for arguments, said in (
        (["nothing"], "no finished experiment is called 'nothing'"),
        (["proportional-1"], "is a run of the reference itself"),
        ([best.name, "--model", "sft-9"], "no tuned model is called 'sft-9'"),
        (["../x"], "is no name of an experiment"),
        (["HEAD"], "HEAD names another commit as soon as"),
    ):
        refused = heartwood("confirm", *arguments)
        assert refused.exit_code == 1
        assert said in refused.stderr
    assert swept.run("git", "rev-parse", "HEAD").stdout == head

    done = heartwood("confirm", best.name, "--json")
    assert done.exit_code == 0, done.stderr
    record = json.loads(done.stdout)
    assert (record["use"], record["model"], record["prompts"]["count"]) == (1, "sft-100", 5)
    assert [r["training_seed"] for r in record["chosen"]["runs"]] == [0, 1, 2]
    assert record["on_dev"]["outcome"] == "improved"
    assert record["on_test"]["scope"] == "mixtures"
    # The adapters of both sides are the same here, so test shows no difference at all.
    assert (record["on_test"]["difference"], record["on_test"]["outcome"]) == (0.0, "inconclusive")
    assert swept.run("git", "log", "-1", "--format=%s").stdout.startswith(f"Test used for sft-100 of {best.name} ")
    assert not swept.run("git", "status", "--porcelain").stdout
    rows = swept.read(f"reports/confirmed/{best.name}.ratings.jsonl").splitlines()
    assert len(rows) == 6 * 5
    assert "park" not in "".join(rows) + json.dumps(record)

    commit = swept.run("git", "rev-parse", "HEAD").stdout
    shown = heartwood("confirm", best.name)
    assert "on dev +" in words(shown)
    assert "on test +0.000" in words(shown)
    first = record["chosen"]["runs"][0]
    broken, stock = (f"{100 * first[f'test_{kind}_rate']:.1f} %" for kind in ("degenerate", "stock_opening"))
    assert f"{first['name']} 0 {first['dev']:.3f} {first['test']:.3f} {broken} {stock}" in words(shown)
    assert swept.run("git", "rev-parse", "HEAD").stdout == commit
    assert f"confirmed: {best.name} against proportional-1" in words(heartwood("mixtures"))

    swept.run("git", "update-ref", best.ref, "HEAD")
    reused = heartwood("confirm", best.name)
    assert f"{best.name!r} was confirmed as commit {best.commit[:12]}, and is now {commit[:12]}" in reused.stderr
    swept.run("git", "update-ref", best.ref, best.commit)


def test_a_second_choice_needs_to_be_asked_for_even_where_the_record_was_deleted(swept: Project) -> None:
    other = next(
        e
        for e in list_experiments()
        if "esconv: 0.3" in swept.run("git", "show", f"{e.commit}:params.yaml").stdout
        and "temperature: none" in swept.run("git", "show", f"{e.commit}:params.yaml").stdout
        and e.name not in heartwood("mixtures", "--json").stdout.partition('"left_out"')[2]
    )
    swept.run("git", "rm", "-q", "-r", "reports/confirmed")
    swept.commit("forget it")
    refused = heartwood("confirm", other.name)
    assert refused.exit_code == 1
    assert "test has been used once already" in refused.stderr
    assert "--again" in refused.stderr
    assert not Path("reports/confirmed").exists()
    record = json.loads(heartwood("confirm", other.name, "--again", "--json").stdout)
    assert record["use"] == 2
    assert "test had been used once before" in words(heartwood("confirm", other.name))


def test_what_cannot_be_read_is_left_out_and_one_name_on_two_commits_stays_two_runs(swept: Project) -> None:
    before = json.loads(heartwood("mixtures", "--json").stdout)
    first = run_experiment("twice", ["mix.esconv=0.45"])
    swept.write("note", "x")
    swept.commit()
    second = run_experiment("twice", ["mix.esconv=0.45", "sft.seed=1"])
    swept.run("git", "checkout", "-q", second.commit)
    swept.write("reports/eq/sft-100.json", "[]")
    swept.commit("broken")
    swept.run("git", "update-ref", f"refs/exps/{'0' * 2}/{'1' * 38}/broken", "HEAD")
    swept.run("git", "checkout", "-q", "-f", "main")
    after = json.loads(heartwood("mixtures", "--json").stdout)
    assert "are not in a form that this version reads" in after["left_out"]["broken"]
    assert len(after["mixtures"]) == len(before["mixtures"]) + 1
    names = {f"twice.{e.baseline[:7]}" for e in (first, second)}
    assert next(set(m["runs"]) for m in after["mixtures"] if m["requested"]["esconv"] == 0.45) == names


def test_uncommitted_changes_and_missing_models_are_refused_before_a_reply(swept: Project) -> None:
    swept.write("params.yaml", PARAMS.replace("size: 10", "size: 11"))
    assert "differs from the last commit" in heartwood("confirm", "any").stderr
    swept.write("params.yaml", PARAMS)
    shutil.rmtree(Path(".dvc/cache/files/md5"))
    names = json.loads(heartwood("mixtures", "--json").stdout)["mixtures"][2]["runs"]
    refused = heartwood("confirm", f"{names[-1]}", "--again")
    assert refused.exit_code == 1
    assert "is not in DVC's cache here" in refused.stderr
