"""Adapters and merged models in plain peft and transformers, and the preview of training rows."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from curation.errors import HeartwoodError
from pipelines.sft.base import read_pointer, resolve_base
from pipelines.sft.hardware import choose
from pipelines.sft.merge import merge
from pipelines.sft.model import load_model
from pipelines.sft.preview import preview
from pipelines.sft.train import TrainSettings, train
from tests.tiny_model import chat_row, write_pointer

ROWS = [chat_row(number, turns=1 + 2 * (number % 3)) for number in range(8)]
SETTINGS = TrainSettings(
    steps=4,
    learning_rate=1e-2,
    batch_size=4,
    context=128,
    lora_rank=4,
    quantisation="none",
    device="cpu",
    threads=1,
)
IDS = [[3, 40, 41, 42, 43, 44, 45]]
PLAIN = """
import sys, torch
from peft import PeftModel
from transformers import AutoModelForCausalLM
base = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32)
model = PeftModel.from_pretrained(base, sys.argv[2]) if len(sys.argv) > 4 else base
with torch.inference_mode():
    logits = model.eval()(input_ids=torch.tensor([[3, 40, 41, 42, 43, 44, 45]])).logits
torch.save(logits, sys.argv[3])
assert not [name for name in sys.modules if name.split(".")[0] in ("pipelines", "curation", "heartwood")]
"""


@pytest.fixture(scope="module")
def adapter(base_json: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("models") / "sft-4"
    train(ROWS, base_json, out, SETTINGS, skip=0, dev=ROWS)
    return out


def _plain_logits(tmp_path: Path, model: Path, *adapter: Path) -> torch.Tensor:
    target = tmp_path / "logits.pt"
    arguments = [str(model), str(adapter[0]) if adapter else "-", str(target), *(["adapter"] if adapter else [])]
    done = subprocess.run([sys.executable, "-c", PLAIN, *arguments], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    return torch.load(target)


def _logits(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        return model(input_ids=torch.tensor(IDS)).logits


def test_plain_peft_in_a_fresh_process_gives_the_same_logits(adapter: Path, tiny_base: Path, tmp_path: Path) -> None:
    ours, _, _ = load_model(adapter, choose("cpu", 1), "none")
    base, _, _ = load_model(tiny_base.parent / "base.json", choose("cpu", 1), "none")
    plain = _plain_logits(tmp_path, tiny_base, adapter)
    # Sums can be taken in another order in another process: weights lie elsewhere in memory (seen on an AMD EPYC, 5e-6).
    assert torch.allclose(plain, _logits(ours), rtol=1e-5, atol=2e-5)
    assert not torch.allclose(plain, _logits(base), atol=1e-3)


def test_a_merged_model_is_base_and_adapter_in_plain_transformers(adapter: Path, tmp_path: Path) -> None:
    merged = merge(adapter, tmp_path / "merged", trained_on="none")
    assert merged.difference < 1e-4
    assert merged.against_nf4 is None
    ours, _, _ = load_model(adapter, choose("cpu", 1), "none")
    assert torch.allclose(_plain_logits(tmp_path, merged.folder), _logits(ours), atol=1e-4)
    # It is a base like any other.
    pointer = resolve_base(str(merged.folder))
    assert pointer.digest == merged.digest
    assert pointer.parameters == read_pointer(adapter).parameters
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["merged"]


def test_a_merged_model_says_how_far_it_is_from_4_bits(adapter: Path, tmp_path: Path) -> None:
    merged = merge(adapter, tmp_path / "merged")
    assert merged.against_nf4 is not None
    assert merged.against_nf4 > 10 * merged.difference


def test_what_is_not_merged(adapter: Path, base_json: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(HeartwoodError, match="merging into nf4 weights is refused"):
        merge(adapter, tmp_path / "merged", quantisation="nf4")
    with pytest.raises(HeartwoodError, match="is no adapter folder"):
        merge(base_json, tmp_path / "merged")
    with pytest.raises(HeartwoodError, match="exists"):
        merge(adapter, tmp_path)
    monkeypatch.setattr(
        "pipelines.sft.merge._read_back", lambda folder: load_model(base_json, choose("cpu", 1), "none")[0]
    )
    with pytest.raises(HeartwoodError, match="logits differ from base and adapter by"):
        merge(adapter, tmp_path / "merged")
    assert not list(tmp_path.iterdir())


def test_the_preview_shows_what_is_in_the_loss(base_json: Path, adapter: Path) -> None:
    shown = preview(ROWS, base_json, 3, 128)
    assert [row.uid for row in shown] == [row["uid"] for row in ROWS[:3]]
    for row, source in zip(shown, ROWS, strict=False):
        assert [part.supervised for part in row.parts] == [False, True]
        assert row.parts[0].text.endswith("<|assistant|>\n")
        assert row.parts[1].text == source["completion"][0]["content"] + "</s>"
        assert sum(part.tokens for part in row.parts) == row.tokens
        assert row.parts[1].tokens == row.supervised_tokens
    assert [row.row for row in preview(ROWS, adapter, 3, 128)] == [16, 17, 18]
    short = preview(ROWS, base_json, 3, 70)
    assert short[2].truncated_turns > 0
    assert not preview(ROWS, base_json, 1, 20)[0].parts
    with pytest.raises(HeartwoodError, match="the mixture has no rows"):
        preview([], base_json, 1, 128)


def test_samples_are_replies_to_fixed_dev_rows(adapter: Path) -> None:
    rows = [json.loads(line) for line in (adapter / "samples.jsonl").read_text().splitlines()]
    assert len(rows) == SETTINGS.samples
    for row in rows:
        assert set(row) == {"uid", "prompt", "reply"}
        assert row["prompt"].endswith("<|assistant|>\n")
        assert row["uid"] in {r["uid"] for r in ROWS}


def test_a_template_with_a_bos_at_each_turn_is_refused(tmp_path: Path) -> None:
    from tests.tiny_model import TINYLLAMA_TEMPLATE, build_tiny_base

    doubled = TINYLLAMA_TEMPLATE.replace("{{ '<|user|>", "{{ bos_token + '<|user|>").replace(
        "{{ '<|system|>", "{{ bos_token + '<|system|>"
    )
    with pytest.raises(HeartwoodError, match="starts with two '<s>', or holds one at each turn"):
        write_pointer(build_tiny_base(tmp_path / "base", chat_template=doubled), tmp_path / "base.json")
