from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from pipelines.sft.base import load_tokenizer, read_pointer
from tests.tiny_model import build_tiny_base, write_pointer


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny base model; read only."""
    return build_tiny_base(tmp_path_factory.mktemp("tiny") / "base")


@pytest.fixture(scope="session")
def base_json(tiny_base: Path) -> Path:
    """The pointer of ``tiny_base``."""
    return write_pointer(tiny_base, tiny_base.parent / "base.json")


@pytest.fixture(scope="session")
def tokenizer(tiny_base: Path, base_json: Path) -> Any:
    return load_tokenizer(tiny_base, read_pointer(base_json).pad_token)


def rows_of(inputs: dict[str, Any]) -> list[tuple[list[int], list[int]]]:
    """Tokens and labels of every row of a batch, padded or laid end to end."""
    if "cu_seq_lens_q" not in inputs:
        return list(zip(inputs["input_ids"].tolist(), inputs["labels"].tolist(), strict=True))
    sizes = inputs["cu_seq_lens_q"].diff().tolist()
    parts = [inputs[name][0].split(sizes) for name in ("input_ids", "labels")]
    return [(ids.tolist(), labels.tolist()) for ids, labels in zip(*parts, strict=True)]
