from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from curation.errors import HeartwoodError
from pipelines.sft.base import read_pointer
from pipelines.sft.hardware import Hardware, choose, reproducible
from pipelines.sft.model import load_base


def _pretend_cuda(monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int]) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
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


def test_precision_can_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose("cpu", precision="bf16").dtype == "bfloat16"
    with pytest.raises(HeartwoodError, match="precision is 'fp16' on a CPU"):
        choose("cpu", precision="fp16")
    with pytest.raises(HeartwoodError, match="precision is 'int8', allowed: auto, fp32, fp16, bf16"):
        choose("cpu", precision="int8")
    _pretend_cuda(monkeypatch, (7, 5))
    assert choose("cuda", precision="fp32").dtype == "float32"
    with pytest.raises(HeartwoodError, match=r"'bf16' but Test GPU: capability 7\.5 has no bfloat16"):
        choose("cuda", precision="bf16")
    _pretend_cuda(monkeypatch, (9, 0))
    assert choose("cuda", precision="fp16").dtype == "float16"


def test_a_process_without_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    _pretend_cuda(monkeypatch, (9, 0))
    monkeypatch.setenv("LOCAL_RANK", "1")
    with pytest.raises(HeartwoodError, match="process 1 of this launch has no GPU of its own") as caught:
        choose("cuda")
    assert caught.value.hint == "set sft.processes to the number of GPUs"


def test_wrong_values() -> None:
    with pytest.raises(HeartwoodError, match="device is 'gpu', allowed: auto, cpu, cuda"):
        choose("gpu")
    with pytest.raises(HeartwoodError, match="threads is 0"):
        choose("cpu", 0)


def test_nothing_is_bfloat16_where_the_hardware_has_none(base_json: Path) -> None:
    """What a T4 gets: 4-bit weights that compute in float16, everything else in float16."""
    model, _ = load_base(read_pointer(base_json), Hardware("cpu", "float16", "as on a T4", 1), dequantise=False)
    kinds = {tensor.dtype for tensor in [*model.parameters(), *model.buffers()]}
    assert kinds == {torch.float16, torch.uint8, torch.float32}
    assert not {name for name, p in model.named_parameters() if p.dtype is torch.float32}
    layers = [module for module in model.modules() if type(module).__name__ == "Linear4bit"]
    assert len(layers) == 14
    for layer in layers:
        assert layer.compute_dtype is torch.float16
        assert layer.weight.quant_state.dtype is torch.float16
        assert layer.weight.quant_state.nested
        assert layer.weight.quant_state.quant_type == "nf4"


def test_reproducible_asks_for_deterministic_kernels_and_puts_everything_back() -> None:
    hardware = choose("cpu", 1)
    threads = torch.get_num_threads()
    with reproducible(hardware):
        assert torch.get_num_threads() == 1
        assert torch.are_deterministic_algorithms_enabled()
        assert torch.is_deterministic_algorithms_warn_only_enabled()
        assert not torch.utils.deterministic.fill_uninitialized_memory
    assert torch.get_num_threads() == threads
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.utils.deterministic.fill_uninitialized_memory


def test_on_a_gpu_no_attention_of_cudnn_and_in_training_no_other_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    before = torch.backends.cuda.cudnn_sdp_enabled()
    with reproducible(Hardware("cuda", "bfloat16", "", 1), strict=True):
        assert not torch.backends.cuda.cudnn_sdp_enabled()
        assert not torch.is_deterministic_algorithms_warn_only_enabled()
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    assert torch.backends.cuda.cudnn_sdp_enabled() == before
    message = "cumsum_cuda_kernel does not have a deterministic implementation, but you set ..."
    refused = pytest.raises(HeartwoodError, match="gives other results from run to run on a GPU: cumsum_cuda_kernel")
    with refused, reproducible(Hardware("cuda", "bfloat16", "", 1), strict=True):
        raise RuntimeError(message)
    with pytest.raises(RuntimeError, match="another error"), reproducible(choose("cpu", 1)):
        raise RuntimeError("another error")
    assert not torch.are_deterministic_algorithms_enabled()
