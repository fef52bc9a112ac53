"""The whole pipeline on the embedded default, once, in a clone of this repository; everything here reads that run."""

import json

import pytest
from ruamel.yaml import YAML

from tests.pipeline.clone import CURATED, Clone, outs, read_lock
from tests.project import ROOT

pytestmark = pytest.mark.pipeline


def test_every_raw_row_is_accounted_for(clone: Clone) -> None:
    for name, counts in clone.json("reports/records.json").items():
        assert counts["raw_rows"] == counts["raw_rows_kept"] + counts["raw_rows_quarantined"], name
        assert counts["raw_rows_quarantined"] == sum(counts["quarantined_by_reason"].values())


def test_curation_gives_the_hashes_of_the_committed_lock(clone: Clone) -> None:
    """Vectors, score columns and what is trained are exempt: floats differ between CPUs (docs/provenance.md)."""
    committed, found = outs(read_lock(ROOT / "dvc.lock")), outs(clone.lock())
    same = [
        *CURATED,
        "data/raw",
        "data/origins.parquet",
        "data/ledger/split.parquet",
        "data/dedup/train.parquet",
        "reports/records.json",
        "reports/split.json",
        "reports/mixture.json",
    ]
    assert {p: found[p] for p in same} == {p: committed[p] for p in same}


def test_nothing_runs_again(clone: Clone) -> None:
    assert "Running stage" not in clone.dvc("repro").stdout


def test_the_wrapper_hashes_as_the_lock_does(clone: Clone) -> None:
    from pipelines.provenance.hashing import hash_path

    for path, md5 in outs(clone.lock()).items():
        assert hash_path(clone.folder / path).md5 == md5, path


def test_the_gates_of_curation_hold(clone: Clone) -> None:
    leakage, check = clone.json("reports/leakage.json"), clone.json("reports/check.json")
    assert all(leakage["recall"][kind]["planted"] >= 200 for kind in ("verbatim", "recased", "truncated", "rewrapped"))
    assert check["residual_leaks"] == check["records_with_evaluation_prompts"] == 0
    assert clone.json("reports/mixture.json")["realised"] == {
        "empathetic_dialogues": 0.5,
        "esconv": 0.3,
        "goemotions": 0.2,
    }


LEDGERS = {
    "split": ("data/records", ["data/split/train.parquet", "data/split/dev.parquet", "data/split/test.parquet"]),
    "dedup": ("data/split/train.parquet", ["data/dedup/train.parquet"]),
    "leakage": ("data/dedup/train.parquet", ["data/clean/train.parquet"]),
}


@pytest.mark.parametrize("stage", list(LEDGERS))
def test_each_ledger_accounts_for_its_stage(clone: Clone, stage: str) -> None:
    import pyarrow.parquet as pq

    def rows(path: str) -> list[dict]:
        # The split stage is what gives a record without an official split its own.
        found = pq.read_table(clone.folder / path).to_pylist()
        return [{k: v for k, v in row.items() if k != "split"} for row in found]

    before, after = LEDGERS[stage]
    ledger = rows(f"data/ledger/{stage}.parquet")
    evidence = ("rule", "parameters", "survivor", "score", "detail")
    removed = [{k: v for k, v in row.items() if k not in evidence} for row in ledger]
    output = [row for path in after for row in rows(path)]
    assert ledger
    assert sorted(output + removed, key=lambda r: r["uid"]) == sorted(rows(before), key=lambda r: r["uid"])
    held_out = {row["uid"] for split in ("dev", "test") for row in rows(f"data/split/{split}.parquet")}
    survivors = held_out if stage == "leakage" else {row["uid"] for row in output}
    for row in ledger:
        assert row["survivor"] in survivors
        parameters = json.loads(row["parameters"])
        limits = [parameters[name] for name in ("jaccard", "cosine", "share") if name in parameters]
        assert row["score"] >= (limits or [1.0])[0]
        assert row["rule"].startswith(stage)


def test_no_decision_lies_so_close_to_a_threshold_that_another_machine_could_turn_it(clone: Clone) -> None:
    close = [
        json.loads(line)
        for name in ("dedup", "leakage")
        for line in (clone.folder / f"data/review/{name}.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    params = YAML(typ="safe", pure=True).load((clone.folder / "params.yaml").read_text(encoding="utf-8"))
    thresholds = {
        "dedup-semantic-v1": params["dedup"]["semantic_cosine"],
        "leakage-semantic-v1": params["leakage"]["detector"]["semantic_cosine"],
    }
    semantic = [d for d in close if d["rule"] in thresholds]
    assert semantic
    assert all(abs(d["score"] - thresholds[d["rule"]]) > 1e-4 for d in semantic)


def test_planted_leaks_and_duplicates_are_removed(clone: Clone) -> None:
    import pyarrow.parquet as pq

    origins = {
        (uid, row["file"], row["first_row"])
        for row in pq.read_table(clone.folder / "data/origins.parquet").to_pylist()
        for uid in [row["uid"]]
    }
    uid_of = {(file, row): uid for uid, file, row in origins}
    clean = set(pq.read_table(clone.folder / "data/clean/train.parquet", columns=["uid"])["uid"].to_pylist())
    truth = json.loads((ROOT / "data/embedded/truth.json").read_text())
    always = {
        "leak_verbatim",
        "leak_recased",
        "situation_in_two_splits",
    }
    planted = [t for t in truth if t["fault"] in always]
    assert len(planted) > 50
    survived = [t for t in planted if uid_of[t["file"], t["first_row"]] in clean]
    assert not survived
    for fault in ("duplicate_exact", "duplicate_recased"):
        pairs = [t for t in truth if t["fault"] == fault]
        assert pairs
        for t in pairs:
            both = {uid_of[t["file"], t["first_row"]], uid_of[t["of_file"], t["of_row"]]}
            assert len(both & clean) <= 1, t


def test_scores_carry_their_evidence(clone: Clone) -> None:
    md5 = outs(clone.lock())
    for model in ("base", "sft-100", "sft-150"):
        score = clone.json(f"reports/eq/{model}.json")
        assert sum(isinstance(v, str) for v in score.values()) <= 8
        assert sum(not isinstance(v, str) for v in score.values()) <= 15
        assert score["n"] == 200
        assert score["prompts"] == md5["data/prompts.jsonl"]
        assert score["base"] == md5["models/base.json"]
        if model != "base":
            assert score["mixture"] == md5["data/mixture/train.jsonl"]
            assert score["adapter"] == md5[f"models/{model}"]
    chained = clone.json("models/sft-150/lineage.json")
    assert chained["parent"]["lineage"]["inputs"]["data/mixture/train.jsonl"]["md5"] == md5["data/mixture/train.jsonl"]
    assert (
        clone.json("models/sft-150/consumed.json")["first_row"]
        == (clone.json("models/sft-100/consumed.json")["next_row"])
    )


def test_verify_says_verified(clone: Clone) -> None:
    found = json.loads(clone.heartwood("verify", "HEAD", "--json").stdout)["HEAD"]
    assert [v["model"] for v in found["scores"]] == ["base", "sft-100", "sft-150"]
    assert len(found["reports"]) == 3
    assert {v["verdict"] for v in (*found["scores"], *found["reports"])} == {"verified"}


def test_the_report_of_the_run_is_whole_and_its_plots_are_drawn(clone: Clone) -> None:
    found = json.loads(clone.heartwood("report", "--json").stdout)
    assert (found["verdict"], found["not_shown"]) == ("verified", {})
    assert (clone.folder / found["path"]).stat().st_size == found["bytes"] < 5_000_000
    assert not clone.run("git", "status", "--porcelain", "reports/site").stdout
    plots = json.loads(clone.dvc("plots", "show", "--json").stdout)
    assert not plots.get("errors")
    assert {"scores", "loss", "mixture", "removals"} <= set(plots["data"])


def test_scores_prints_the_table(clone: Clone) -> None:
    done = clone.heartwood("scores")
    for model in ("base", "sft-100", "sft-150"):
        assert model in done.stdout
    assert clone.json("reports/eq/sft-150.json")["mixture"][:12] in done.stdout


@pytest.mark.parametrize(
    ("path", "verdict", "named"),
    [
        ("reports/eq/sft-100.json", "broken", "reports/eq/sft-100.json"),
        ("reports/eq/sft-100.ratings.jsonl", "broken", "reports/eq/sft-100.ratings.jsonl"),
        ("params.yaml", "stale", "sft"),
        ("dvc_stages/mix.py", "stale", "dvc_stages/mix.py"),
        ("data/embedded/goemotions/train.tsv", "stale", "data/embedded"),
    ],
)
def test_verify_names_the_link_that_an_edit_breaks(clone: Clone, path: str, verdict: str, named: str) -> None:
    target = clone.folder / path
    before = target.read_bytes()
    try:
        changed = before.replace(b'"index": ', b'"index": 1', 1) if path.startswith("reports") else before + b"\n# x\n"
        if path == "params.yaml":
            changed = before.replace(b"context: 192", b"context: 180")
        assert changed != before
        target.write_bytes(changed)
        done = clone.heartwood("verify", "--json", check=False)
    finally:
        target.write_bytes(before)
    assert done.returncode == 1
    found = next(v for v in json.loads(done.stdout)["workspace"]["scores"] if v["model"] == "sft-100")
    assert found["verdict"] == verdict
    assert any(named in f["link"] for f in found["faults"] if f["kind"] == verdict)


def test_verify_finds_a_forged_lock(clone: Clone) -> None:
    path = clone.folder / "reports/eq/base.json"
    lock = (clone.folder / "dvc.lock").read_text()
    before = path.read_text()
    try:
        score = json.loads(before)
        score["index"] += 1
        path.write_text(json.dumps(score, indent=2, sort_keys=True) + "\n")
        import hashlib

        old = outs(clone.lock())["reports/eq/base.json"]
        (clone.folder / "dvc.lock").write_text(lock.replace(old, hashlib.md5(path.read_bytes()).hexdigest()))
        responses = outs(clone.lock())["data/responses/base.jsonl"]
        (clone.folder / "dvc.lock").write_text((clone.folder / "dvc.lock").read_text().replace(responses, "a" * 32))
        done = clone.heartwood("verify", "--json", check=False)
    finally:
        path.write_text(before)
        (clone.folder / "dvc.lock").write_text(lock)
    assert done.returncode == 1
    base = json.loads(done.stdout)["workspace"]["scores"][0]
    assert (base["model"], base["verdict"]) == ("base", "broken")
    assert any("data/responses/base.jsonl" in fault["message"] for fault in base["faults"])


def test_a_mixture_experiment_reruns_only_what_follows_mix(clone: Clone) -> None:
    before = outs(clone.lock())
    try:
        done = clone.dvc("exp", "run", "-S", "mix.esconv=0.4", "check")
        ran = [line.split("'")[1] for line in done.stdout.splitlines() if line.startswith("Running stage")]
        assert ran == ["mix", "check"]
        assert clone.json("reports/mixture.json")["realised"]["esconv"] == 0.4
        assert clone.json("reports/mixture.json")["rows"]["esconv"] == 480
        after = outs(clone.lock())
        for path in ("data/dev.jsonl", "data/prompts.jsonl", "data/clean/train.parquet"):
            assert after[path] == before[path]
        assert after["data/mixture/train.jsonl"] != before["data/mixture/train.jsonl"]
    finally:
        clone.run("git", "checkout", "-q", "--", ".")
        clone.dvc("checkout", "-q")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("mix.esconv=0.9", "the shares sum to 1.1"),
        ("mix.esconv=abc", "mix.esconv: 'abc'; allowed: a number from 0 to 1, or 'rest'"),
        ("+mix.esconvv=0.1", "mix.esconvv is neither a setting nor a source"),
        ("mix.size=100000", "are left after curation"),
        ("mix.esconv=-0.1", "mix.esconv: -0.1"),
    ],
)
def test_an_impossible_mixture_is_one_clear_error(clone: Clone, override: str, message: str) -> None:
    try:
        done = clone.dvc("exp", "run", "-S", override, "mix", check=False)
    finally:
        clone.run("git", "checkout", "-q", "--", ".")
        clone.dvc("checkout", "-q", check=False)
    output = done.stdout + done.stderr
    assert done.returncode != 0
    assert message in output
    assert "next: " in output
    assert "Traceback" not in output


def test_models_become_experiments_that_metrics_diff_compares(clone: Clone) -> None:
    clone.heartwood("models")
    assert not clone.run("git", "status", "--porcelain").stdout
    diff = json.loads(clone.dvc("metrics", "diff", "base", "sft-100", "--json").stdout)
    changed = diff["reports/metrics.json"]["index"]
    assert changed["old"] == clone.json("reports/eq/base.json")["index"]
    assert changed["new"] == clone.json("reports/eq/sft-100.json")["index"]
    assert clone.heartwood("models").returncode == 0
    clone.run("git", "tag", "sft-100")
    refused = clone.heartwood("models", check=False)
    clone.run("git", "tag", "-d", "sft-100")
    assert refused.returncode == 1
    assert "already a tag" in refused.stderr
