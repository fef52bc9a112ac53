import json
import shutil
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from curation.examples import make_examples
from curation.jsonl import write_jsonl
from curation.records import write_records
from heartwood.cli import app
from pipelines.experiments.diff import Row, changed_params, pair_rows
from pipelines.provenance.outs import Outs
from pipelines.provenance.revision import open_revision
from tests.curation.making import comment, numbered, talk
from tests.experiments.making import write_score
from tests.project import Project

rows = st.lists(
    st.builds(
        lambda n, place, source: Row(f"{n}-{place}", str(n), source, "sad", (source, place)),
        st.integers(0, 4),
        st.sampled_from(["g1", "g2", "g3"]),
        st.sampled_from(["a", "b"]),
    ),
    max_size=12,
)


class TestPairs:
    @given(rows, rows)
    def test_sizes_add_up_and_nothing_stands_on_both_sides(self, a, b):
        found = pair_rows(a, b)
        before, after = [x for x, _ in found if x], [y for _, y in found if y]
        assert len(a) - len(before) == len(b) - len(after)
        assert not {(r.content, r.place) for r in before} & {(r.content, r.place) for r in after}
        assert all(x.place == y.place for x, y in found if x and y)

    @given(rows, st.randoms(use_true_random=False))
    def test_order_does_not_matter(self, a, random):
        shuffled = list(a)
        random.shuffle(shuffled)
        assert pair_rows(a, shuffled) == []

    def test_copies_count(self):
        one = Row("u", "c", "s", "", ("s", "g"))
        assert pair_rows([one] * 3, [one]) == [(one, None), (one, None)]

    def test_other_content_in_one_place_is_a_change(self):
        old, new, other = (Row(u, u, "s", "", ("s", g)) for u, g in (("1", "g"), ("2", "g"), ("3", "h")))
        assert pair_rows([old], [new, other]) == [(old, new), (None, other)]


def test_changed_params_are_dotted_keys():
    a = {"mix": {"esconv": 0.3, "size": 5}, "x": [1]}
    b = {"mix": {"esconv": 0.4, "size": 5, "new": {"k": 1}}, "x": [2]}
    assert changed_params(a, b) == {"mix.esconv": (0.3, 0.4), "mix.new": (None, {"k": 1}), "x": ([1], [2])}
    assert changed_params(a, a) == {}


DVC_YAML = """
stages:
  data:
    cmd: python put_out.py
    deps: [put_out.py, source]
    outs: [data/clean/train.parquet, data/split/dev.parquet, data/split/test.parquet, data/mixture/train.jsonl]
"""
OUTS = ("data/clean/train.parquet", "data/split/dev.parquet", "data/split/test.parquet", "data/mixture/train.jsonl")
COPY = f"""
import shutil
from pathlib import Path
for out in {OUTS}:
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(Path("source") / Path(out).parent.name / Path(out).name, out)
"""

TRAIN = [
    *(talk(f"I lost my key number {n}.", "Where?", source="es", group=f"d{n}", emotions=("fear",)) for n in range(3)),
    comment("What a day", "anger", source="go", group="c1"),
    comment("Fine", "joy", source="go", group="c2"),
]


def write_tables(made, train, examples, dev=()):
    write_records(train, made.folder / "source/clean/train.parquet")
    write_records(dev, made.folder / "source/split/dev.parquet")
    write_records([], made.folder / "source/split/test.parquet")
    write_jsonl(examples, made.folder / "source/mixture/train.jsonl")


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """What ``two`` is a copy of; read only."""
    folder = tmp_path_factory.mktemp("two")
    made = Project(folder / "project", folder / "state")
    made.folder.mkdir()
    made.run("git", "init", "-q", "-b", "main")
    made.dvc("init", "-q")
    made.write("dvc.yaml", DVC_YAML)
    made.write("put_out.py", COPY)
    made.write("params.yaml", "mix:\n  es: 0.3\nmodels:\n  base: x\n  sft: y\n")
    for folder in ("clean", "split", "mixture"):
        made.write(f"data/{folder}/.gitignore", "*\n!.gitignore\n")
    before = numbered(TRAIN)
    write_tables(made, before, make_examples(before, "Be kind."))
    for model, values in (("base", [2.0, 3.0, 2.5]), ("sft", [1.5, 2.0, 2.25])):
        write_score(made, model, values)
    made.dvc("repro", "-q")
    made.commit("one")
    made.run("git", "tag", "one")

    after = numbered([replace(TRAIN[0], emotions=("anger",)), *TRAIN[2:]])
    examples = make_examples(after, "Be kind.")
    write_tables(made, after, [*examples, examples[0]])
    made.write("params.yaml", made.read("params.yaml").replace("0.3", "0.4"))
    write_score(made, "sft", [2.5, 3.0, 3.5])
    made.dvc("repro", "-q")
    made.commit("two")
    return made


@pytest.fixture
def two(template, tmp_path, monkeypatch):
    """A project with two commits: a label changed, a record left, a row drawn twice, a model scored anew."""
    made = Project(tmp_path / "project", tmp_path / "state")
    shutil.copytree(template.folder, made.folder)
    monkeypatch.chdir(made.folder)
    for key, value in made.env.items():
        monkeypatch.setenv(key, value)
    return made


def diff(*arguments):
    return CliRunner().invoke(app, ["diff", *arguments])


def test_the_difference_of_two_revisions_by_record_label_and_score(two):
    done = diff("one", "main", "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["params"] == {"mix.es": {"from": 0.3, "to": 0.4}}
    train = found["tables"]["train"]
    assert train["rows"] == [5, 4]
    assert {k: train[k] for k in ("added", "removed", "changed")} == {"added": 0, "removed": 1, "changed": 1}
    assert train["by_source_and_label"] == {
        "es": {
            "anger": {"added": 0, "removed": 0, "changed": 1},
            "fear": {"added": 0, "removed": 1, "changed": 0},
        }
    }
    changed = next(e for e in train["examples"] if e["kind"] == "changed")
    assert changed["before"].startswith("(fear) user: I lost my key number 0.")
    assert changed["after"].startswith("(anger) user: I lost my key number 0.")
    mixture = found["tables"]["mixture"]
    assert mixture["rows"] == [5, 5]
    assert (mixture["added"], mixture["removed"]) == (1, 1)
    assert found["tables"]["dev"] == {
        "rows": [0, 0], "added": 0, "removed": 0, "changed": 0, "by_source_and_label": {}, "examples": []
    }  # fmt: skip
    base, sft = found["scores"]
    assert base["not_compared"] == "the same ratings"
    assert sft["comparison"]["difference"] == pytest.approx(1.083333)
    assert sft["verdict"] == "inconclusive"
    assert sft["parts"]["by_source"]["es"]["prompts"] == 3


def test_the_same_in_words(two):
    text = " ".join(diff("one", "main", "--examples", "1").stdout.split())
    assert "params.yaml mix.es: 0.3 -> 0.4" in text
    assert "train: 5 -> 4 rows; 0 added, 1 removed, 1 changed" in text
    assert "dev: the same 0 rows" in text
    assert "sft: index 1.917 -> 3.000, +1.083" in text
    assert "inconclusive" in text


def test_equal_revisions_and_the_workspace(two):
    assert all(t["added"] == t["removed"] == 0 for t in json.loads(diff("main", "--json").stdout)["tables"].values())
    write_records(numbered(TRAIN[:1]), two.folder / "data/clean/train.parquet")
    write_jsonl(make_examples(numbered(TRAIN[:1]), ""), two.folder / "data/mixture/train.jsonl")
    found = json.loads(diff("main", "--json").stdout)["tables"]
    assert found["train"]["rows"] == [4, 1]
    # Another system message is another example in the same place.
    one = json.loads(diff("one", "--json").stdout)["tables"]["mixture"]
    assert (one["changed"], one["removed"]) == (1, 4)


def test_a_score_of_another_mixture_is_called_stale(two):
    write_score(two, "sft", [2.5, 3.0, 3.5], mixture="0" * 32)
    found = json.loads(diff("main", "workspace", "--json").stdout)["scores"][1]
    assert found["stale"] == ["workspace"]
    assert "STALE at workspace" in " ".join(diff("main").stdout.split())


def test_other_prompts_are_not_compared(two):
    write_score(two, "sft", [2.5, 3.0, 3.5], prompts="0" * 32)
    write_score(two, "base", [2.0, 3.0, 2.5, 4.0])
    base, sft = json.loads(diff("main", "--json").stdout)["scores"]
    assert (base["not_compared"], sft["not_compared"]) == ("not comparable: other prompts",) * 2


def test_data_that_is_not_in_the_cache_is_named_with_the_way_to_get_it(two):
    path = Outs(open_revision("one")).file("data/clean/train.parquet")
    path.chmod(0o644)
    path.unlink()
    done = diff("one", "main")
    assert done.exit_code == 1
    assert "data/clean/train.parquet of one (md5 " in done.stderr
    assert "dvc fetch --all-commits" in done.stderr


def test_what_is_no_revision_and_a_missing_table(two):
    assert "is no commit, tag, branch or experiment" in diff("nothing", "main").stderr
    (two.folder / "data/split/dev.parquet").unlink()
    found = json.loads(diff("main", "--json").stdout)
    assert "dev" not in found["tables"]
    assert found["not_compared"]["dev"] == "data/split/dev.parquet is not there at workspace"


def test_a_damaged_copy_is_not_used(two, tmp_path):
    outs = Outs(open_revision("main"))
    outs.copy("data/clean/train.parquet", tmp_path / "whole")
    cached = outs.file("data/clean/train.parquet")
    cached.chmod(0o644)
    cached.write_bytes(cached.read_bytes()[:-1] + b"x")
    with pytest.raises(Exception, match="is damaged"):
        outs.copy("data/clean/train.parquet", tmp_path / "broken")
