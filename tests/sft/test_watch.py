"""Dev losses, the verdict on them, samples, and memory, without a training."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from curation.errors import HeartwoodError
from pipelines.sft.memory import GIB, Load, check_memory, estimate, keeps_dequantised, shape_of, what_fits
from pipelines.sft.rows import dev_sample
from pipelines.sft.watch import DevLoss, StepLoss, judge
from tests.tiny_model import chat_row

TINYLLAMA = {
    "hidden_size": 2048,
    "intermediate_size": 5632,
    "num_hidden_layers": 22,
    "vocab_size": 32000,
    "tie_word_embeddings": False,
}
SHAPE = shape_of(TINYLLAMA, 1_100_048_384)
LOAD = Load(tokens=4096, dtype="bfloat16", nf4=True, dequantised=False, checkpointing=False, trainable=2_252_800)


def _steps(*losses: float) -> list[StepLoss]:
    return [StepLoss(n, loss, 1e-3, 10, 20) for n, loss in enumerate(losses, 1)]


def _dev(*means: float, noise: float = 0.0) -> list[DevLoss]:
    """A dev loss every 5 steps over 20 rows of 10 tokens; ``noise`` moves rows against each other, not their mean."""
    sums = [tuple(10 * (m + (noise * k if row % 2 else -noise * k)) for row in range(20)) for k, m in enumerate(means)]
    return [DevLoss(5 * k, s, (10,) * 20) for k, s in enumerate(sums)]


def test_overfitting_is_a_rise_that_the_rows_agree_on() -> None:
    steps = _steps(*[3.0 - 0.1 * n for n in range(20)])
    verdict = judge(steps, _dev(4.0, 3.0, 2.5, 2.8, 3.1), 5)
    assert verdict is not None
    assert (verdict.verdict, verdict.best.step, verdict.last.step) == ("overfitting", 10, 20)
    assert verdict.rise == pytest.approx(0.6)
    assert verdict.low > 0
    assert "lowest 2.5000 at step 10, 3.1000 at step 20; +0.6000 since the lowest" in verdict.evidence
    assert "mean train loss 2.3000 then, 1.3000 over the last 5 steps" in verdict.evidence


def test_a_rise_while_training_gets_worse_is_no_overfitting() -> None:
    verdict = judge(_steps(*[2.0 + 0.1 * n for n in range(20)]), _dev(4.0, 3.0, 2.5, 2.8, 3.1), 5)
    assert verdict is not None
    assert verdict.verdict == "diverging"


def test_a_rise_within_the_noise_is_level() -> None:
    verdict = judge(_steps(*[3.0] * 20), _dev(4.0, 3.0, 2.5, 2.51, 2.52, noise=0.3), 5)
    assert verdict is not None
    assert verdict.verdict == "level"
    assert verdict.low < 0 < verdict.high


def test_still_falling_is_improving_and_a_halt_is_level() -> None:
    falling = judge(_steps(*[3.0] * 20), _dev(4.0, 3.0, 2.5, 2.3, 2.2), 5)
    halted = judge(_steps(*[3.0] * 20), _dev(4.0, 3.0, 2.5, 2.3, 2.299, noise=0.2), 5)
    assert falling is not None
    assert halted is not None
    assert (falling.verdict, falling.best.step) == ("improving", 20)
    assert (halted.verdict, halted.best.step) == ("level", 20)


def test_without_enough_there_is_no_verdict() -> None:
    assert judge(_steps(1.0), [], 5) is None
    once = judge(_steps(1.0), _dev(1.0), 5)
    assert once is not None
    assert once.verdict == "unknown"
    few = [DevLoss(0, (1.0, 2.0), (1, 1)), DevLoss(5, (0.1, 0.2), (1, 1))]
    assert judge(_steps(1.0), few, 5).verdict == "unknown"  # type: ignore[union-attr]


def test_the_dev_sample_is_fixed_and_takes_as_many_of_each_source(tokenizer: Any) -> None:
    rows = [chat_row(n, source="ed" if n % 5 else "go") for n in range(50)]
    rows[7]["prompt"][-1]["content"] = "sad " * 300
    sample = dev_sample(tokenizer, rows, 12, 128)
    assert sample == dev_sample(tokenizer, rows[::-1], 12, 128)
    sources = {row["uid"]: row["source"] for row in rows}
    assert sorted(sources[uid] for uid, _ in sample) == ["ed"] * 6 + ["go"] * 6
    assert len(dev_sample(tokenizer, rows, 999, 128)) == 49
    assert dev_sample(tokenizer, [], 4, 128) == ()


def test_the_estimate_of_tinyllamas_shape_is_near_what_was_measured() -> None:
    # 8 x 512 tokens in bfloat16 with every logit at once took 11.2 GiB on an H200 (4-bit weights: 0.73 GiB).
    every_logit_at_once = 4096 * 32000 * 10
    assert 9.5 * GIB < estimate(SHAPE, LOAD) + every_logit_at_once < 13 * GIB
    assert 0.6 * GIB < estimate(SHAPE, replace(LOAD, tokens=1, checkpointing=True)) < 1 * GIB
    assert estimate(SHAPE, replace(LOAD, checkpointing=True)) < 3 * GIB


def test_too_little_memory_says_what_would_fit() -> None:
    assert check_memory(SHAPE, LOAD, 8, 1, 40 * GIB) == estimate(SHAPE, LOAD)
    with pytest.raises(HeartwoodError, match=r"needs about 1\d\.\d GiB, 6\.0 GiB are free .* 4096 tokens") as caught:
        check_memory(SHAPE, LOAD, 8, 1, 6 * GIB)
    assert "-S sft.batch_size=8 -S sft.gradient_accumulation=1 -S sft.gradient_checkpointing=true" in caught.value.hint
    assert "sft.batch_size=2 -S sft.gradient_accumulation=4" in what_fits(
        SHAPE, replace(LOAD, checkpointing=True), 8, 1, int(1.5 * GIB)
    )
    assert "no batch size fits" in what_fits(SHAPE, LOAD, 8, 1, GIB // 2)


def test_a_t4_holds_tinyllama_in_4_bits_and_an_h200_dequantised() -> None:
    assert not keeps_dequantised(1_100_048_384, "float16", 15 * GIB)
    assert keeps_dequantised(1_100_048_384, "bfloat16", 140 * GIB)
    assert keeps_dequantised(15_700_000, "float32", 4 * GIB)
