"""all-MiniLM-L6-v2 in PyTorch for CPUs with AMX: each fp32 matrix product as three bfloat16 ones.

An fp32 number is the sum of two bfloat16 numbers, ``high`` and ``low``, within 2**-17 of its size. AMX multiplies
bfloat16 some ten times as fast as AVX-512 multiplies fp32, and adds up in fp32: ``high @ high + high @ low +
low @ high`` takes half the time of the fp32 product and is as good to within a few units of its last bits. All else is
fp32. The product is oneMKL's ``cblas_gemm_bf16bf16f32``, which the wheels of PyTorch for x86-64 export.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curation.embedding.graph import EPSILON, HEADS, LAYERS, WIDTH, Array, Weights
from curation.hardware import Product

# So many rows are split at once: they stay in a core's own cache.
ROWS = 256
# The fastest of 128 to 2,048 by a few percent, and what a thread needs stays at some 20 MB.
BATCH_TOKENS = 1024


class _Split:
    """A matrix as the sum of two bfloat16 matrices of its shape."""

    def __init__(self, rows: int, columns: int) -> None:
        import torch

        self.high = torch.empty(rows, columns, dtype=torch.bfloat16)
        self.low = torch.empty(rows, columns, dtype=torch.bfloat16)
        self._rest = torch.empty(min(rows, ROWS), columns)

    def of(self, matrix: Any, before: Callable[[Any], Any] | None = None) -> "_Split":
        """This, holding ``matrix``, to which ``before`` has been done in place."""
        import torch

        for start in range(0, len(matrix), ROWS):
            rows = slice(start, start + ROWS)
            part = matrix[rows]
            if before:
                before(part)
            high, rest = self.high[rows], self._rest[: len(part)]
            high.copy_(part)
            rest.copy_(high)
            torch.sub(part, rest, out=rest)
            self.low[rows].copy_(rest)
        return self


class AmxModel:
    """The hidden states of batches of one token count, in fp32 by three bfloat16 products.

    Args:
        weights: the tensors of ``model.safetensors``, by their names there.
        product: from ``load_product``.

    Raises:
        KeyError: a tensor is missing.
    """

    batch_tokens = BATCH_TOKENS

    def __init__(self, weights: Weights, product: Product) -> None:
        import torch

        self._product = product

        def tensor(value: Array) -> Any:
            return torch.from_numpy(np.ascontiguousarray(value))

        def norm(name: str) -> tuple[Any, Any]:
            return tensor(weights[f"{name}.weight"]), tensor(weights[f"{name}.bias"])

        def linear(*names: str) -> tuple[_Split, Any]:
            weight = torch.cat([tensor(weights[f"{name}.weight"]) for name in names])
            return _Split(*weight.shape).of(weight), torch.cat([tensor(weights[f"{name}.bias"]) for name in names])

        self._words = tensor(weights["embeddings.word_embeddings.weight"])
        # Every text is one segment: the vector of its type is the same at every position.
        self._positions = tensor(
            weights["embeddings.position_embeddings.weight"] + weights["embeddings.token_type_embeddings.weight"][0]
        )
        self._norm = norm("embeddings.LayerNorm")
        self._layers = []
        for name in (f"encoder.layer.{layer}" for layer in range(LAYERS)):
            attention = [f"{name}.attention.self.{part}" for part in ("query", "key", "value")]
            self._layers.append(
                (
                    linear(*attention),
                    linear(f"{name}.attention.output.dense"),
                    norm(f"{name}.attention.output.LayerNorm"),
                    linear(f"{name}.intermediate.dense"),
                    linear(f"{name}.output.dense"),
                    norm(f"{name}.output.LayerNorm"),
                )
            )

    def start_thread(self) -> None:
        """Called in each thread that will run batches: PyTorch and oneMKL then use that one thread for them."""
        import torch

        torch.set_num_threads(1)

    def finish(self) -> None:
        """Called where ``start_thread`` was not: threads that start later get the caller's number again."""
        import torch

        torch.set_num_threads(torch.get_num_threads())

    def __call__(self, ids: NDArray[np.int64]) -> Array:
        """Token ids, shape (texts, tokens), to hidden states, float32, shape (texts, tokens, 384)."""
        import torch
        from torch.nn import functional

        def add_product(total: Any, left: _Split, right: _Split) -> None:
            rows, columns, inner = len(total), len(right.high), right.high.shape[1]
            for a, b in ((left.high, right.high), (left.high, right.low), (left.low, right.high)):
                self._product(a.data_ptr(), b.data_ptr(), total.data_ptr(), (rows, columns, inner), columns, add=True)

        with torch.inference_mode():
            texts, tokens = ids.shape
            rows = texts * tokens
            x = functional.embedding(torch.from_numpy(ids), self._words) + self._positions[:tokens]
            x = functional.layer_norm(x.view(rows, WIDTH), (WIDTH,), *self._norm, EPSILON)
            narrow, wide = _Split(rows, WIDTH), _Split(rows, 4 * WIDTH)
            heads, inner = torch.empty(rows, 3 * WIDTH), torch.empty(rows, 4 * WIDTH)
            for (into_heads, heads_bias), (mix, mix_bias), mix_norm, (widen, wide_bias), (
                back,
                bias,
            ), norm in self._layers:
                add_product(heads.copy_(heads_bias), narrow.of(x), into_heads)
                query, key, value = heads.view(texts, tokens, 3, HEADS, WIDTH // HEADS).permute(2, 0, 3, 1, 4)
                attended = functional.scaled_dot_product_attention(query, key, value)
                attended = attended.transpose(1, 2).reshape(rows, WIDTH)
                add_product(x.add_(mix_bias), narrow.of(attended), mix)
                x = functional.layer_norm(x, (WIDTH,), *mix_norm, EPSILON)
                add_product(inner.copy_(wide_bias), narrow.of(x), widen)
                add_product(x.add_(bias), wide.of(inner, torch.ops.aten.gelu_), back)
                x = functional.layer_norm(x, (WIDTH,), *norm, EPSILON)
            return np.asarray(x.view(texts, tokens, WIDTH))
