"""all-MiniLM-L6-v2 as an ONNX graph, made from its weights.

The model is a plain BERT encoder (Devlin et al. 2018), so its graph is written down here in standard ONNX operators.
That takes under a second in any process; an exported file would have to be kept, keyed and checked.
There is no attention mask: every batch holds texts of one token count, so nothing is padding.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Weights = Mapping[str, Array]

LAYERS = 6
HEADS = 12
WIDTH = 384
EPSILON = 1e-12
OPSET = 20
IR_VERSION = 10


class _Graph:
    """Nodes and constants in the order in which they are added."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: dict[str, NDArray[Any]] = {}

    def constant(self, name: str, value: NDArray[Any]) -> str:
        self.constants[name] = np.ascontiguousarray(value)
        return name

    def add(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        from onnx import helper

        self.nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output


def build_graph(weights: Weights) -> bytes:
    """The serialised model: ``ids``, int64 (texts, tokens), to ``hidden``, float32 (texts, tokens, 384).

    Args:
        weights: the tensors of ``model.safetensors``, by their names there.

    Raises:
        KeyError: a tensor is missing.
    """
    from onnx import TensorProto, helper, numpy_helper

    graph = _Graph()
    graph.add("Shape", ["ids"], "shape")
    graph.add("Concat", ["shape", graph.constant("heads", np.array([HEADS, WIDTH // HEADS]))], "by_head", axis=0)
    graph.add("Concat", ["shape", graph.constant("width", np.array([WIDTH]))], "by_text", axis=0)
    graph.constant("by_token", np.array([-1, WIDTH]))
    # Between the attentions, all tokens of the batch are the rows of one matrix: Gemm adds the bias on its way.
    x = graph.add("Reshape", [_embed(graph, weights), "by_token"], "tokens")
    for layer in range(LAYERS):
        x = _layer(graph, weights, f"encoder.layer.{layer}", x)
    graph.add("Reshape", [x, "by_text"], "hidden")
    made = helper.make_graph(
        graph.nodes,
        "all-MiniLM-L6-v2",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["texts", "tokens"])],
        [helper.make_tensor_value_info("hidden", TensorProto.FLOAT, ["texts", "tokens", WIDTH])],
        [numpy_helper.from_array(value, name) for name, value in graph.constants.items()],
    )
    opset = helper.make_opsetid("", OPSET)
    return bytes(helper.make_model(made, opset_imports=[opset], ir_version=IR_VERSION).SerializeToString())


def _embed(graph: _Graph, weights: Weights) -> str:
    words = graph.constant("words", weights["embeddings.word_embeddings.weight"])
    # Every text is one segment: the vector of its type is the same at every position.
    position = weights["embeddings.position_embeddings.weight"] + weights["embeddings.token_type_embeddings.weight"][0]
    zero = graph.constant("zero", np.array([0]))
    graph.add("Gather", [words, "ids"], "word")
    graph.add("Shape", ["ids"], "length", start=1, end=2)
    graph.add("Slice", [graph.constant("positions", position), zero, "length", zero], "position")
    graph.add("Add", ["word", "position"], "embedded")
    return _normalise(graph, weights, "embeddings.LayerNorm", "embedded")


def _normalise(graph: _Graph, weights: Weights, name: str, x: str) -> str:
    scale = graph.constant(f"{name}.weight", weights[f"{name}.weight"])
    bias = graph.constant(f"{name}.bias", weights[f"{name}.bias"])
    return graph.add("LayerNormalization", [x, scale, bias], name, axis=-1, epsilon=EPSILON)


def _linear(graph: _Graph, name: str, x: str, weight: Array, bias: Array | None) -> str:
    inputs = [x, graph.constant(f"{name}.weight", weight)]
    if bias is not None:
        inputs.append(graph.constant(f"{name}.bias", bias))
    return graph.add("Gemm", inputs, name, transB=1)


def _layer(graph: _Graph, weights: Weights, layer: str, x: str) -> str:
    def of(name: str) -> tuple[Array, Array]:
        return weights[f"{layer}.{name}.weight"], weights[f"{layer}.{name}.bias"]

    def head(name: str, weight: Array, bias: Array | None, order: list[int]) -> str:
        y = _linear(graph, f"{layer}.{name}", x, weight, bias)
        graph.add("Reshape", [y, "by_head"], f"{y}.heads")
        return graph.add("Transpose", [f"{y}.heads"], f"{y}.split", perm=order)

    # The scale of the scores is folded into the query. The key's bias adds one number to all scores of a query, which
    # the softmax takes away again; the value's bias passes the softmax's weights (sum 1) into the output's bias.
    scale = np.float32((WIDTH // HEADS) ** -0.5)
    query_weight, query_bias = of("attention.self.query")
    key_weight, _ = of("attention.self.key")
    value_weight, value_bias = of("attention.self.value")
    query = head("query", query_weight * scale, query_bias * scale, [0, 2, 1, 3])
    key = head("key", key_weight, None, [0, 2, 3, 1])
    value = head("value", value_weight, None, [0, 2, 1, 3])
    graph.add("MatMul", [query, key], f"{layer}.scores")
    graph.add("Softmax", [f"{layer}.scores"], f"{layer}.shares", axis=-1)
    graph.add("MatMul", [f"{layer}.shares", value], f"{layer}.attended")
    graph.add("Transpose", [f"{layer}.attended"], f"{layer}.joining", perm=[0, 2, 1, 3])
    graph.add("Reshape", [f"{layer}.joining", "by_token"], f"{layer}.joined")

    weight, bias = of("attention.output.dense")
    mixed = _linear(graph, f"{layer}.mixed", f"{layer}.joined", weight, bias + weight @ value_bias)
    graph.add("Add", [mixed, x], f"{layer}.attention")
    x = _normalise(graph, weights, f"{layer}.attention.output.LayerNorm", f"{layer}.attention")

    wide = _linear(graph, f"{layer}.wide", x, *of("intermediate.dense"))
    graph.add("Gelu", [wide], f"{layer}.bent")
    narrow = _linear(graph, f"{layer}.narrow", f"{layer}.bent", *of("output.dense"))
    graph.add("Add", [narrow, x], f"{layer}.output")
    return _normalise(graph, weights, f"{layer}.output.LayerNorm", f"{layer}.output")
