from __future__ import annotations

import hashlib
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from curation.errors import HeartwoodError
from pipelines.sft.adapter import check_adapter, safetensors_bytes
from pipelines.sft.base import read_pointer
from pipelines.sft.hardware import choose
from pipelines.sft.model import count_parameters, load_base, load_model
from pipelines.sft.train import TrainSettings, next_row, select_rows, train
from tests.sft.conftest import rows_of
from tests.tiny_model import build_tiny_base, chat_row, write_pointer

ROWS = [chat_row(number, source="esconv" if number % 3 else "ed") for number in range(10)]
SETTINGS = TrainSettings(
    steps=3, learning_rate=1e-2, batch_size=4, context=128, lora_rank=4, lora_alpha=8, device="cpu", threads=1
)


@pytest.fixture(scope="module")
def parent(base_json: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter trained for three steps of four rows; read only."""
    out = tmp_path_factory.mktemp("models") / "sft-3"
    train(ROWS, base_json, out, SETTINGS, skip=0)
    return out


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def days_seen(monkeypatch: pytest.MonkeyPatch, tokenizer: Any) -> list[int]:
    """The day of every row, in the order in which they enter the loss."""
    import trl

    days: list[int] = []
    original = trl.SFTTrainer.compute_loss

    def recording(self: Any, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        for text in tokenizer.batch_decode([ids for ids, _ in rows_of(inputs)]):
            days.append(int(re.search(r"day (\d+)", text)[1]))  # type: ignore[index]
        return original(self, model, inputs, *args, **kwargs)

    monkeypatch.setattr(trl.SFTTrainer, "compute_loss", recording)
    return days


def test_rows_are_consumed_in_file_order_and_the_child_goes_on(
    base_json: Path, tmp_path: Path, days_seen: list[int]
) -> None:
    first = train(ROWS, base_json, tmp_path / "a", replace(SETTINGS, steps=2), skip=next_row(base_json))
    assert days_seen == [0, 1, 2, 3, 4, 5, 6, 7]
    uids = "\n".join(row["uid"] for row in ROWS[:8])
    assert first.consumed.uids_sha256 == hashlib.sha256(uids.encode()).hexdigest()
    assert first.consumed.epochs_by_source == {"ed": 0.75, "esconv": round(5 / 6, 6)}
    days_seen.clear()
    second = train(ROWS, tmp_path / "a", tmp_path / "b", replace(SETTINGS, steps=1), skip=next_row(tmp_path / "a"))
    assert days_seen == [8, 9, 0, 1]
    assert (second.consumed.first_row, second.consumed.next_row) == (8, 12)
    assert next_row(tmp_path / "b") == 12


def test_gradient_accumulation_keeps_the_order_and_the_loss(
    base_json: Path, tmp_path: Path, days_seen: list[int]
) -> None:
    plain = replace(SETTINGS, steps=2, lora_dropout=0.0, quantisation="none")
    halves = replace(plain, batch_size=2, gradient_accumulation=2)
    one = train(ROWS, base_json, tmp_path / "one", plain, skip=0)
    two = train(ROWS, base_json, tmp_path / "two", halves, skip=0)
    assert days_seen == [*range(8), *range(8)]
    for left, right in zip(one.losses, two.losses, strict=True):
        assert left.loss == pytest.approx(right.loss, rel=1e-4)
        assert (left.step, left.supervised_tokens) == (right.step, right.supervised_tokens)


def test_adapter_folder(parent: Path, base_json: Path) -> None:
    assert {path.name for path in parent.iterdir()} == {
        "adapter_model.safetensors",
        "adapter_config.json",
        "base.json",
        "consumed.json",
    }
    assert [path.name for path in parent.parent.iterdir()] == ["sft-3"]
    assert (parent / "base.json").read_bytes() == base_json.read_bytes()
    config = json.loads((parent / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == read_pointer(base_json).name
    assert config["target_modules"] == ["k_proj", "o_proj", "q_proj", "v_proj"]
    assert list(config) == sorted(config)
    weights = load_file(str(parent / "adapter_model.safetensors"))
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}
    assert any(tensor.abs().max() > 0 for name, tensor in weights.items() if "lora_B" in name)
    rounded = [tensor.to(torch.bfloat16).float() for tensor in weights.values()]
    assert not all(torch.equal(a, b) for a, b in zip(weights.values(), rounded, strict=True))


def test_same_inputs_give_the_same_bytes(parent: Path, base_json: Path, tmp_path: Path) -> None:
    torch.rand(3)
    train(ROWS, base_json, tmp_path / "again", SETTINGS, skip=0)
    for path in parent.iterdir():
        assert _sha256(path) == _sha256(tmp_path / "again" / path.name), path.name
    train(ROWS, base_json, tmp_path / "other", replace(SETTINGS, seed=1), skip=0)
    assert _sha256(parent / "adapter_model.safetensors") != _sha256(tmp_path / "other" / "adapter_model.safetensors")


def test_child_starts_from_exactly_the_parents_weights(parent: Path, tmp_path: Path) -> None:
    # The first step of a warm-up has learning rate 0, so a run of one step changes nothing.
    result = train(ROWS, parent, tmp_path / "child", replace(SETTINGS, steps=1, warmup_ratio=0.5), skip=12)
    assert result.losses[0].learning_rate == 0
    start, end = (load_file(str(path / "adapter_model.safetensors")) for path in (parent, tmp_path / "child"))
    assert set(start) == set(end)
    assert all(torch.equal(start[name], end[name]) for name in start)


@pytest.mark.parametrize("quantisation", ["nf4", "none"])
def test_loss_falls_when_overfitting(base_json: Path, tmp_path: Path, quantisation: str) -> None:
    settings = replace(SETTINGS, steps=25, batch_size=2, quantisation=quantisation, lora_rank=8)
    result = train(ROWS[:2], base_json, tmp_path / "out", settings, skip=0)
    losses = [step.loss for step in result.losses]
    assert losses[-1] < 0.75 * losses[0]
    assert [step.step for step in result.losses] == list(range(1, 26))
    rates = [step.learning_rate for step in result.losses]
    assert rates[0] == 0
    assert max(rates) == pytest.approx(1e-2)
    assert rates[-1] < 1e-3
    assert result.consumed.epochs_by_source == {"ed": 25.0, "esconv": 25.0}


def test_child_uses_its_own_learning_rate_and_a_fresh_schedule(parent: Path, tmp_path: Path) -> None:
    settings = replace(SETTINGS, steps=4, learning_rate=1e-3, warmup_ratio=0.0)
    result = train(ROWS, parent, tmp_path / "child", settings, skip=12)
    assert [step.learning_rate for step in result.losses] == pytest.approx([1e-3, 7.5e-4, 5e-4, 2.5e-4])


def test_parameters_are_counted_by_logical_shape(parent: Path, base_json: Path) -> None:
    pointer = read_pointer(base_json)
    model, _, _ = load_model(parent, choose("cpu", 1), "nf4", is_trainable=True, dequantise=False)
    packed = sum(p.numel() for p in model.parameters())
    lora = 2 * 4 * ((64 + 64) + (64 + 32) + (64 + 32) + (64 + 64))
    assert count_parameters(model, pointer) == (lora, pointer.parameters + lora)
    assert packed < pointer.parameters
    generating, _, _ = load_model(parent, choose("cpu", 1), "nf4")
    assert count_parameters(generating, pointer) == (0, pointer.parameters + lora)


def test_evaluation_computes_what_training_computes(base_json: Path) -> None:
    model, tokenizer = load_base(read_pointer(base_json), choose("cpu", 1), "nf4")
    ids = torch.tensor([tokenizer("I am so sad today.").input_ids])
    with torch.no_grad():
        evaluating = model.eval()(ids).logits
        training = model.train()(ids).logits
    assert torch.equal(evaluating, training)
    assert model.config.pad_token_id == tokenizer.convert_tokens_to_ids("<unk>") != tokenizer.eos_token_id


def test_too_long_rows_are_passed_over_and_counted(tokenizer: Any) -> None:
    rows = [chat_row(number) for number in range(45)]
    rows[3]["prompt"][-1]["content"] = "sad " * 200
    selection = select_rows(tokenizer, rows, 0, 40, 128)
    assert selection.uids == tuple(row["uid"] for row in [*rows[:3], *rows[4:41]])
    assert (selection.consumed.next_row, selection.consumed.rows, selection.consumed.too_long) == (41, 40, 1)
    with pytest.raises(HeartwoodError, match=r"more than 5% of the 10 rows .* row uid-003:0") as caught:
        select_rows(tokenizer, rows, 0, 10, 128)
    assert caught.value.hint == "raise sft.context (now 128)"


def test_truncated_rows_are_counted(tokenizer: Any) -> None:
    rows = [chat_row(number, turns=1 + 4 * (number % 2)) for number in range(4)]
    consumed = select_rows(tokenizer, rows, 0, 4, 100).consumed
    assert (consumed.truncated, consumed.too_long) == (2, 0)


def test_selection_errors(tokenizer: Any) -> None:
    with pytest.raises(HeartwoodError, match="the mixture has no rows"):
        select_rows(tokenizer, [], 0, 1, 100)
    with pytest.raises(HeartwoodError, match="first row is -1"):
        select_rows(tokenizer, ROWS, -1, 1, 100)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, "sft.steps is 0, allowed: 1 or more"),
        ({"learning_rate": 0.0}, "sft.learning_rate is 0.0"),
        ({"schedule": "cosine"}, "sft.schedule is 'cosine', allowed: 'linear'"),
        ({"warmup_ratio": 1.0}, "sft.warmup_ratio"),
        ({"lora_dropout": 1.0}, "sft.lora_dropout"),
        ({"lora_targets": ()}, "sft.lora_targets"),
    ],
)
def test_impossible_settings(change: dict[str, Any], message: str) -> None:
    with pytest.raises(HeartwoodError, match=message):
        replace(SETTINGS, **change)


def test_settings_that_the_base_cannot_take(base_json: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(HeartwoodError, match=r"no linear layer \['w_pack'\], allowed: .*'q_proj'"):
        train(ROWS, base_json, out, replace(SETTINGS, lora_targets=("q_proj", "w_pack")), skip=0)
    with pytest.raises(HeartwoodError, match=r"sft\.context is 999, the base model takes at most 256"):
        train(ROWS, base_json, out, replace(SETTINGS, context=999), skip=0)
    with pytest.raises(HeartwoodError, match="quantisation is 'int8', allowed: nf4, none"):
        train(ROWS, base_json, out, replace(SETTINGS, quantisation="int8"), skip=0)
    assert not out.exists()


def test_chain_must_keep_its_lora_settings(parent: Path, tmp_path: Path) -> None:
    with pytest.raises(HeartwoodError, match=r"sft\.lora_rank is 8, but the adapter to continue, .* has 4"):
        train(ROWS, parent, tmp_path / "out", replace(SETTINGS, lora_rank=8), skip=12)


def test_out_must_be_empty(parent: Path, base_json: Path) -> None:
    with pytest.raises(HeartwoodError, match="exists and is not empty"):
        train(ROWS, base_json, parent, SETTINGS, skip=0)


def test_loss_that_is_not_finite_stops_the_run(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    folder = build_tiny_base(tmp_path / "base")
    weights = load_file(str(folder / "model.safetensors"))
    weights["model.norm.weight"][0] = float("nan")
    save_file(weights, str(folder / "model.safetensors"), metadata={"format": "pt"})
    pointer = write_pointer(folder, tmp_path / "base.json")
    with pytest.raises(HeartwoodError, match="the loss is nan at step 1 of 3") as caught:
        train(ROWS, pointer, tmp_path / "out", SETTINGS, skip=0)
    assert "lower the learning rate" in caught.value.hint
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base", "base.json"]


def test_a_trainer_that_prepares_other_labels_is_stopped(
    base_json: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import trl

    original = trl.SFTTrainer.get_train_dataloader

    def full_sequence(self: Any) -> Any:
        for batch in original(self):
            batch["labels"] = batch["input_ids"].clone()
            yield batch

    monkeypatch.setattr(trl.SFTTrainer, "get_train_dataloader", full_sequence)
    with pytest.raises(HeartwoodError, match="batch at training row 0 is not the rows and masks"):
        train(ROWS, base_json, tmp_path / "out", SETTINGS, skip=0)


def test_shuffled_rows_are_stopped(base_json: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import trl
    from torch.utils.data import RandomSampler

    monkeypatch.setattr(
        trl.SFTTrainer, "_get_train_sampler", lambda self, dataset=None: RandomSampler(self.train_dataset)
    )
    with pytest.raises(HeartwoodError, match="is not the rows and masks"):
        train(ROWS, base_json, tmp_path / "out", SETTINGS, skip=0)


def test_changed_base_file_is_found_when_an_adapter_is_loaded(tmp_path: Path, parent: Path) -> None:
    folder = build_tiny_base(tmp_path / "base")
    pointer = write_pointer(folder, tmp_path / "base.json")
    train(ROWS, pointer, tmp_path / "sft", replace(SETTINGS, steps=1), skip=0)
    build_tiny_base(folder, seed=1)
    with pytest.raises(HeartwoodError, match=r"model\.safetensors: expected"):
        load_model(tmp_path / "sft", choose("cpu", 1))


def test_adapter_for_another_base_is_refused(tmp_path: Path, parent: Path) -> None:
    other = write_pointer(build_tiny_base(tmp_path / "base", seed=1), tmp_path / "base.json")
    with pytest.raises(HeartwoodError, match="belongs to another base"):
        load_model(parent, choose("cpu", 1), base=read_pointer(other))
    moved = Path(shutil.copytree(parent, tmp_path / "sft"))
    shutil.copy(other, moved / "base.json")
    with pytest.raises(HeartwoodError, match="was trained on another base: expected digest"):
        load_model(moved, choose("cpu", 1))


def test_incomplete_adapter(tmp_path: Path, parent: Path) -> None:
    moved = Path(shutil.copytree(parent, tmp_path / "sft-3"))
    pointer = read_pointer(moved)
    (moved / "consumed.json").write_text("{}")
    with pytest.raises(HeartwoodError, match=r"cannot read next_row from .*consumed\.json"):
        next_row(moved)
    (moved / "consumed.json").write_text('{"next_row": -1}')
    with pytest.raises(HeartwoodError, match="next_row is -1"):
        next_row(moved)
    (moved / "adapter_model.safetensors").write_text("no")
    with pytest.raises(HeartwoodError, match="is no safetensors file"):
        check_adapter(moved, pointer)
    (moved / "adapter_model.safetensors").unlink()
    with pytest.raises(HeartwoodError, match=r"has no adapter_model\.safetensors") as caught:
        check_adapter(moved, pointer)
    assert caught.value.hint == "make it again with: dvc repro sft@sft-3"


def test_base_has_no_adapter_to_continue(base_json: Path) -> None:
    with pytest.raises(HeartwoodError, match="has no adapter to continue"):
        load_model(base_json, choose("cpu", 1), is_trainable=True)


def test_training_leaves_the_process_as_it_was(base_json: Path, tmp_path: Path) -> None:
    torch.set_num_threads(2)
    train(ROWS, base_json, tmp_path / "out", replace(SETTINGS, steps=1), skip=0)
    assert torch.get_num_threads() == 2
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.utils.deterministic.fill_uninitialized_memory


def test_adapter_bytes_do_not_depend_on_hash_order(base_json: Path) -> None:
    from safetensors.torch import load

    pointer = read_pointer(base_json)
    weights = {"b": torch.ones(3), "a": torch.arange(4.0).reshape(2, 2)}
    versions = {safetensors_bytes(weights, pointer) for _ in range(20)}
    assert len(versions) == 1
    loaded = load(versions.pop())
    assert all(torch.equal(loaded[name], weights[name]) for name in weights)


def test_too_little_memory_stops_before_the_weights_are_loaded(
    base_json: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipelines.sft.hardware import Hardware

    monkeypatch.setattr(Hardware, "free_memory", lambda self: 2_000_000)
    monkeypatch.setattr("pipelines.sft.train.load_base", lambda *a, **k: pytest.fail("the weights were loaded"))
    with pytest.raises(HeartwoodError, match=r"training needs about 0\.0 GiB, 0\.0 GiB are free here") as caught:
        train(ROWS, base_json, tmp_path / "out", SETTINGS, skip=0)
    assert "-S sft.batch_size=" in caught.value.hint


def test_memory_that_runs_out_is_said_plainly(base_json: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import trl

    def out_of_memory(self: Any, *args: Any, **kwargs: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore")

    monkeypatch.setattr(trl.SFTTrainer, "compute_loss", out_of_memory)
    with pytest.raises(HeartwoodError, match=r"out of memory on cpu: CUDA out of memory\. Tried") as caught:
        train(ROWS, base_json, tmp_path / "out", SETTINGS, skip=0)
    assert "halve sft.batch_size and double sft.gradient_accumulation" in caught.value.hint
    assert not (tmp_path / "out").exists()
