from __future__ import annotations

import pytest
import torch

from curation.errors import HeartwoodError
from pipelines.sft.hardware import choose


def _pretend_cuda(monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int]) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "Test GPU")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *args, **kwargs: True)


@pytest.mark.parametrize(("capability", "dtype"), [((7, 5), "float16"), ((8, 0), "bfloat16"), ((9, 0), "bfloat16")])
def test_emulated_bfloat16_does_not_count(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], dtype: str
) -> None:
    _pretend_cuda(monkeypatch, capability)
    for device in ("auto", "cuda"):
        hardware = choose(device)
        assert (hardware.device, hardware.dtype) == ("cuda", dtype)
        assert "Test GPU" in hardware.reason
        assert hardware.torch_dtype is getattr(torch, dtype)
    assert choose("cpu").dtype == "float32"


def test_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    hardware = choose("auto", 3)
    assert (hardware.device, hardware.dtype, hardware.threads) == ("cpu", "float32", 3)
    with pytest.raises(HeartwoodError, match="torch finds no CUDA device"):
        choose("cuda")


def test_wrong_values() -> None:
    with pytest.raises(HeartwoodError, match="device is 'gpu', allowed: auto, cpu, cuda"):
        choose("gpu")
    with pytest.raises(HeartwoodError, match="threads is 0"):
        choose("cpu", 0)
