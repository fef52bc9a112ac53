"""Training and generation with random weights of TinyLlama's exact shape, beside a plain loop, in one run.

Three trainings over the same rows of a mixture: a plain loop (every row padded to 512, the batch at once), Heartwood as
on a T4 (float16, checkpointed, 4-bit weights dequantised at each use), and Heartwood as fast as the device allows
(its own precision, rows end to end, weights dequantised once). The last one is the whole chain, a checkpoint and one
that goes on from it. Before it, the loss of each dev row with rows end to end and with rows side by side; after it,
replies to the prompts by base and both checkpoints. Speeds and memory do not depend on what the weights say.

    python -m benchmarks.training --mixture data/mixture/train.jsonl --dev data/dev.jsonl --prompts data/prompts.jsonl
    python -m benchmarks.training --shape tiny --steps 4 2 --batch-size 4 --new-tokens 8 --prompts-count 6   # on a CPU
"""

import argparse
import json
import platform
import shutil
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

ROOT = Path(__file__).resolve().parents[1]
GIB = 1024**3
SHAPES: dict[str, dict[str, Any]] = {
    "tinyllama": {
        "hidden_size": 2048,
        "intermediate_size": 5632,
        "num_hidden_layers": 22,
        "num_attention_heads": 32,
        "num_key_value_heads": 4,
        "vocab_size": 32000,
        "max_position_embeddings": 2048,
    },
    "tiny": {
        "hidden_size": 64,
        "intermediate_size": 176,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 9000,
        "max_position_embeddings": 2048,
    },
}
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj")
BESIDE = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


def say(text: str) -> None:
    """Print at once, also into a pipe."""
    print(text, flush=True)


def build_base(folder: Path, shape: str, tokenizer: Path) -> Path:
    """A folder with random bfloat16 weights of the shape and a tokenizer, and its pointer beside it."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from pipelines.sft.base import resolve_base
    from pipelines.sft.model import quiet_libraries

    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        config = LlamaConfig(**SHAPES[shape], bos_token_id=1, eos_token_id=2, tie_word_embeddings=False)
        with quiet_libraries(), torch.device("cuda" if torch.cuda.is_available() else "cpu"):
            LlamaForCausalLM(config).save_pretrained(str(folder))
    finally:
        torch.set_default_dtype(before)
    for name in BESIDE:
        if (tokenizer / name).is_file():
            shutil.copyfile(tokenizer / name, folder / name)
    pointer = folder.parent / "base.json"
    pointer.write_text(resolve_base(str(folder)).to_json(), encoding="utf-8")
    return pointer


def reset_peak() -> None:
    """Forget the peak of the device's memory."""
    import gc

    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def peak() -> float | None:
    """Peak of the device's memory in GiB since ``reset_peak``; None without a GPU."""
    import torch

    return torch.cuda.max_memory_allocated() / GIB if torch.cuda.is_available() else None


def told(name: str, real: int, supervised: int, seconds: float, steps: int) -> float:
    """Print one training's speed and peak; returns real tokens/s."""
    memory = peak()
    say(
        f"{name}: {steps} steps, {seconds:.2f} s, {seconds / steps:.4f} s a step; real tokens/s {real / seconds:,.0f}, "
        f"supervised {supervised / seconds:,.0f}; peak {f'{memory:.2f} GiB' if memory is not None else 'n/a'}"
    )
    return real / seconds


def plain_loop(pointer_file: Path, encoded: list[Any], steps: int, batch: int, hardware: Any, length: int) -> float:
    """The loop of a notebook: 4-bit base, LoRA of rank 16 on q and v, rows padded to ``length``; real tokens/s."""
    import torch
    from peft import LoraConfig, get_peft_model

    from pipelines.sft.base import read_pointer
    from pipelines.sft.model import load_base

    base, tokenizer = load_base(read_pointer(pointer_file), hardware, "nf4", dequantise=False)
    model = get_peft_model(base, LoraConfig(r=16, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"))
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    model.train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    device = hardware.torch_device
    half = hardware.dtype != "float32"
    reset_peak()
    real = supervised = 0
    started = time.perf_counter()
    warm = min(2, steps - 1)
    for step in range(steps):
        if step == warm:
            if device.type == "cuda":
                torch.cuda.synchronize()
            real = supervised = 0
            started = time.perf_counter()
        rows = [encoded[(step * batch + n) % len(encoded)] for n in range(batch)]
        ids = torch.full((batch, length), tokenizer.pad_token_id)
        labels = torch.full((batch, length), -100)
        attention = torch.zeros((batch, length), dtype=torch.long)
        for n, row in enumerate(rows):
            size = min(length, len(row.input_ids))
            ids[n, :size] = torch.tensor(row.input_ids[:size])
            mask = torch.tensor(row.completion_mask[:size], dtype=torch.bool)
            labels[n, :size] = torch.where(mask, ids[n, :size], torch.tensor(-100))
            attention[n, :size] = 1
        real += int(attention.sum())
        supervised += int((labels != -100).sum())
        with torch.autocast(device.type, dtype=hardware.torch_dtype, enabled=half):
            loss = model(
                input_ids=ids.to(device), attention_mask=attention.to(device), labels=labels.to(device), use_cache=False
            ).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if not torch.isfinite(loss):
            sys.exit(f"plain loop: the loss is {float(loss)} at step {step + 1}")
    if device.type == "cuda":
        torch.cuda.synchronize()
    seconds = time.perf_counter() - started
    say(f"  ({(steps - warm) * batch * length / seconds:,.0f} tokens/s with padding counted)")
    return told(f"plain loop, {batch} rows padded to {length}", real, supervised, seconds, steps - warm)


def heartwood(
    name: str, rows: list[Any], dev: list[Any], parent: Path, out: Path, settings: Any, keep: bool, skip: int
) -> tuple[float, Any]:
    """One training through the pipeline's own function; real tokens/s and its result."""
    from pipelines.sft.train import train

    reset_peak()
    with mock.patch("pipelines.sft.train.keeps_dequantised", return_value=keep):
        started = time.perf_counter()
        result = train(rows, parent, out, settings, skip=skip, dev=dev)
        whole = time.perf_counter() - started
    say(f"  {result.describe()}")
    say(
        f"  with loading, checks, dev losses and samples {whole:.1f} s; estimated {result.estimated_memory / GIB:.2f} GiB"
    )
    supervised = sum(s.supervised_tokens for s in result.losses)
    rate = told(name, result.outcome.trained_tokens, supervised, result.outcome.seconds, settings.steps)
    return rate, result


def same_losses(rows: list[Any], dev: list[Any], parent: Path, out: Path, settings: Any, allowed: float) -> None:
    """Losses of each dev row before the first step, rows end to end against rows side by side with padding."""
    import math

    losses = []
    for batches in ("packed", "padded"):
        once = replace(settings, steps=1, batch_size=16, batches=batches, dev_rows=64)
        _, result = heartwood(
            f"one step, {batches}", rows, dev, parent, out.with_name(f"{out.name}-{batches}"), once, True, 0
        )
        first = result.dev_losses[0]
        losses.append([total / tokens for total, tokens in zip(first.sums, first.tokens, strict=True)])
    apart = [abs(a - b) for a, b in zip(*losses, strict=True)]
    say(
        f"packed and padded: {len(apart)} rows, mean loss {math.fsum(losses[0]) / len(apart):.4f}, greatest difference of a "
        f"row's loss {max(apart):.1e}, mean {math.fsum(apart) / len(apart):.1e}; allowed {allowed:g}: {max(apart) <= allowed}"
    )


def generation(models: list[Path], prompts: list[Any], arguments: argparse.Namespace, hardware: Any) -> None:
    """Replies of each model to the prompts, twice, and whether the texts are the same."""
    from pipelines.evaluation.respond import RespondSettings, generate
    from pipelines.sft.formatting import encode_prompt
    from pipelines.sft.model import load_model

    settings = RespondSettings(
        batch_size=arguments.generation_batch_size,
        context=arguments.context + arguments.new_tokens,
        max_new_tokens=arguments.new_tokens,
    )
    total = seconds = 0.0
    for path in models:
        reset_peak()
        started = time.perf_counter()
        model, tokenizer, _ = load_model(path, hardware, "nf4")
        loading = time.perf_counter() - started
        encoded = [
            (p["id"], encode_prompt(tokenizer, p["messages"], settings.context, settings.max_new_tokens))
            for p in prompts
        ]
        generate(model, tokenizer, encoded[:1], settings)
        texts = []
        for _ in range(2):
            started = time.perf_counter()
            replies = generate(model, tokenizer, encoded, settings)
            took = time.perf_counter() - started
            texts.append([r["text"] for r in replies])
        tokens = sum(r["new_tokens"] for r in replies)
        total, seconds = total + tokens, seconds + took
        same = "same text twice" if texts[0] == texts[1] else "DIFFERENT TEXT"
        memory = peak()
        say(
            f"replies of {path.name}: loaded in {loading:.1f} s; {len(replies)} prompts in batches of "
            f"{settings.batch_size}, {tokens} new tokens, {took:.2f} s, {tokens / took:,.0f} tokens/s; {same}; peak "
            f"{f'{memory:.2f} GiB' if memory is not None else 'n/a'}"
        )
        del model
    say(f"replies of {len(models)} models: {total / seconds:,.0f} new tokens/s (reference 393, wanted 1,965)")


def lines(path: Path | None) -> list[Any]:
    """The rows of a JSONL file, none without one."""
    if path is None:
        return []
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file if line.strip()]


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=sorted(SHAPES), default="tinyllama")
    parser.add_argument("--tokenizer", type=Path, default=ROOT / "models/base", help="a folder with a chat tokenizer")
    parser.add_argument("--mixture", type=Path, default=ROOT / "data/mixture/train.jsonl")
    parser.add_argument("--dev", type=Path, default=ROOT / "data/dev.jsonl")
    parser.add_argument("--prompts", type=Path, default=ROOT / "data/prompts.jsonl")
    parser.add_argument("--prompts-count", type=int, default=200)
    parser.add_argument("--steps", type=int, nargs=2, default=[100, 50], help="steps of the two checkpoints")
    parser.add_argument("--plain-steps", type=int, default=30)
    parser.add_argument("--batch-size", type=int, default=32, help="rows a step of the fast configuration")
    parser.add_argument("--context", type=int, default=512)
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--generation-batch-size", type=int, default=100)
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--limit-gib", type=float, default=6.0, help="what the T4-like configuration may take")
    parser.add_argument("--skip", nargs="*", choices=["plain", "t4", "same", "chain", "generation"], default=[])
    return parser.parse_args()


def main() -> None:
    """Run what was asked for and print it as it goes."""
    arguments = parse()
    import peft
    import torch
    import transformers
    import trl

    from pipelines.sft.base import load_tokenizer, read_pointer
    from pipelines.sft.hardware import choose, reproducible
    from pipelines.sft.model import quiet_libraries
    from pipelines.sft.rows import next_row, select_rows
    from pipelines.sft.settings import TrainSettings

    hardware = choose(arguments.device, arguments.threads)
    say(
        f"{hardware.reason}; Python {platform.python_version()}, torch {torch.__version__}, transformers "
        f"{transformers.__version__}, peft {peft.__version__}, trl {trl.__version__}"
    )
    folder = Path(tempfile.mkdtemp(prefix="heartwood-training-"))
    try:
        started = time.perf_counter()
        base = build_base(folder / "base", arguments.shape, arguments.tokenizer)
        pointer = read_pointer(base)
        say(f"random weights, {pointer.parameters:,} parameters: {time.perf_counter() - started:.1f} s")
        rows, dev = lines(arguments.mixture), lines(arguments.dev)
        tokenizer = load_tokenizer(folder / "base", pointer.pad_token)
        started = time.perf_counter()
        with quiet_libraries():
            sample = select_rows(tokenizer, rows, 0, min(len(rows), 1200), arguments.context).encoded
        lengths = sorted(len(row.input_ids) for row in sample)
        say(
            f"{len(rows)} rows; of the first {len(sample)}: {sum(lengths) / len(lengths):.1f} tokens on average, median "
            f"{lengths[len(lengths) // 2]}, longest {lengths[-1]}; tokenised in {time.perf_counter() - started:.1f} s"
        )
        plain = None
        if "plain" not in arguments.skip:
            length = min(512, arguments.context)
            plain = plain_loop(base, list(sample), arguments.plain_steps, 8, hardware, length)
        settings = TrainSettings(
            steps=arguments.steps[0],
            learning_rate=2e-4,
            batch_size=8,
            context=arguments.context,
            lora_rank=8,
            lora_alpha=16,
            lora_dropout=0.0,
            lora_targets=TARGETS,
            device=arguments.device,
            threads=arguments.threads,
        )
        if "t4" not in arguments.skip:
            half = "fp16" if hardware.device == "cuda" else "auto"
            low = replace(settings, steps=arguments.plain_steps, precision=half, gradient_checkpointing=True)
            heartwood("as on a T4, 8 rows a step", rows, dev, base, folder / "t4", low, False, 0)
            memory = peak()
            if memory is not None:
                say(f"  T4-like peak {memory:.2f} GiB, allowed {arguments.limit_gib}: {memory <= arguments.limit_gib}")
            plainly = replace(low, gradient_checkpointing=False)
            heartwood("the same without checkpointing", rows, dev, base, folder / "t4-plain", plainly, False, 0)
        fast = replace(settings, batch_size=arguments.batch_size)
        if "same" not in arguments.skip:
            allowed = 1e-5 if hardware.dtype == "float32" else 1e-3
            same_losses(rows, dev, base, folder / "same", fast, allowed)
        if "chain" not in arguments.skip:
            heartwood("warm-up", rows, dev, base, folder / "warm", replace(fast, steps=3), True, 0)
            started = time.perf_counter()
            name = f"{arguments.batch_size} rows a step, end to end"
            first, second = folder / "sft-first", folder / "sft-second"
            rate, _ = heartwood(f"first checkpoint, {name}", rows, dev, base, first, fast, True, 0)
            on = replace(fast, steps=arguments.steps[1], learning_rate=1e-4)
            heartwood(f"second, {name}", rows, dev, first, second, on, True, next_row(first))
            say(f"the whole chain: {time.perf_counter() - started:.1f} s")
            if plain:
                say(f"real tokens/s against the plain loop: {rate / plain:.2f} times (wanted 1.5)")
            if "generation" not in arguments.skip:
                prompts = lines(arguments.prompts)[: arguments.prompts_count]
                with reproducible(hardware):
                    generation([base, first, second], prompts, arguments, hardware)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
