"""The gates of leakage and check: each is seen to hold on the small project, and to fail when it must."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from curation.errors import HeartwoodError
from curation.examples import make_examples
from curation.jsonl import read_jsonl, write_jsonl
from curation.records import read_records, write_records
from pipelines.layout import CLEAN, MIXTURE, PROMPTS, SPLIT
from tests.small_project import small_params, stage, without_encoder


@pytest.fixture
def params(small_project: Path, tmp_path: Path, repo_root: Path, monkeypatch: pytest.MonkeyPatch) -> dict:
    """The params of a copy of the small project, which is the current folder."""
    shutil.copytree(small_project, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    without_encoder(monkeypatch, "leakage")
    # The proof on DVC's graph has its own tests; here is no DVC.
    monkeypatch.setattr(without_encoder(monkeypatch, "check"), "require_independent", lambda *_, **__: None)
    return small_params(repo_root)


def test_a_detector_that_misses_planted_leaks_stops_the_pipeline(params: dict) -> None:
    params["leakage"]["min_recall"]["truncated"] = 0.8
    stage("leakage", params)
    params["leakage"]["detector"] |= {"contained_share": 1.0, "shingle_words": 60, "semantic_cosine": 1.0}
    with pytest.raises(HeartwoodError, match=r"found 0 of \d+ planted truncated leaks"):
        stage("leakage", params)


def test_a_mixture_of_clean_records_passes(params: dict) -> None:
    stage("check", params)


def test_a_mixture_with_a_record_of_dev_stops_the_pipeline(params: dict) -> None:
    dialogue = next(c for c in read_records(SPLIT["dev"]) if c.task == "dialogue")
    leak = replace(dialogue, split="train")
    write_records([*read_records(CLEAN), leak], CLEAN)
    (example,) = make_examples([leak], params["chat"]["system"])
    write_jsonl([example, *read_jsonl(MIXTURE)[1:]], MIXTURE)
    with pytest.raises(HeartwoodError, match=f"1 records of the mixture repeat text of dev or test; .*{leak.uid}"):
        stage("check", params)


def test_a_mixture_with_an_evaluation_prompt_stops_the_pipeline(params: dict) -> None:
    said = read_jsonl(MIXTURE)[0]["prompt"][-1]
    prompt = read_jsonl(PROMPTS)[0]
    write_jsonl([{**prompt, "messages": [*prompt["messages"][:-1], said]}], PROMPTS)
    with pytest.raises(HeartwoodError, match="repeat text of the evaluation prompts"):
        stage("check", params)


def test_a_mixture_with_an_example_of_no_clean_record_stops_the_pipeline(params: dict) -> None:
    first, *rest = read_jsonl(MIXTURE)
    write_jsonl([{**first, "completion": [{"role": "assistant", "content": "Another reply."}]}, *rest], MIXTURE)
    with pytest.raises(HeartwoodError, match="not one that clean train gives"):
        stage("check", params)
