"""all-MiniLM-L6-v2 as an ONNX graph, made from its weights.

The model is a plain BERT encoder (Devlin et al. 2018), so its graph is written down here in standard ONNX operators.
That takes under a second in any process; an exported file would have to be kept, keyed and checked.
There is no attention mask: every batch holds texts of one token count, so nothing is padding.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

LAYERS = 6
HEADS = 12
WIDTH = 384
EPSILON = 1e-12
OPSET = 20
IR_VERSION = 10


class _Graph:
    """Nodes and constants in the order in which they are added; every output is named after what makes it."""

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


def build_graph(weights: Mapping[str, NDArray[np.float32]]) -> bytes:
    """The serialised model: ``ids``, int64 (texts, tokens), to ``hidden``, float32 (texts, tokens, 384).

    Args:
        weights: the tensors of ``model.safetensors``, by their names there.

    Raises:
        KeyError: a tensor is missing.
    """
    from onnx import TensorProto, helper, numpy_helper

    graph = _Graph()
    graph.constant("split_heads", np.array([0, 0, HEADS, WIDTH // HEADS]))
    graph.constant("join_heads", np.array([0, 0, WIDTH]))
    hidden = _embed(graph, weights)
    for layer in range(LAYERS):
        hidden = _layer(graph, weights, f"encoder.layer.{layer}", hidden)
    graph.add("Identity", [hidden], "hidden")
    made = helper.make_graph(
        graph.nodes,
        "all-MiniLM-L6-v2",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["texts", "tokens"])],
        [helper.make_tensor_value_info("hidden", TensorProto.FLOAT, ["texts", "tokens", WIDTH])],
        [numpy_helper.from_array(value, name) for name, value in graph.constants.items()],
    )
    opset = helper.make_opsetid("", OPSET)
    return bytes(helper.make_model(made, opset_imports=[opset], ir_version=IR_VERSION).SerializeToString())


def _embed(graph: _Graph, weights: Mapping[str, NDArray[np.float32]]) -> str:
    words = graph.constant("words", weights["embeddings.word_embeddings.weight"])
    # Every text is one segment: the vector of its type is the same at every position.
    position = weights["embeddings.position_embeddings.weight"] + weights["embeddings.token_type_embeddings.weight"][0]
    graph.add("Gather", [words, "ids"], "word")
    graph.add("Shape", ["ids"], "tokens", start=1, end=2)
    zero = graph.constant("zero", np.array([0]))
    graph.add("Slice", [graph.constant("positions", position), zero, "tokens", zero], "position")
    graph.add("Add", ["word", "position"], "embedded")
    return _normalise(graph, weights, "embeddings.LayerNorm", "embedded")


def _normalise(graph: _Graph, weights: Mapping[str, NDArray[np.float32]], name: str, x: str) -> str:
    scale = graph.constant(f"{name}.weight", weights[f"{name}.weight"])
    bias = graph.constant(f"{name}.bias", weights[f"{name}.bias"])
    return graph.add("LayerNormalization", [x, scale, bias], name, axis=-1, epsilon=EPSILON)


def _product(graph: _Graph, name: str, x: str, weight: NDArray[np.float32]) -> str:
    return graph.add("MatMul", [x, graph.constant(f"{name}.weight", weight.T)], f"{name}.product")


def _dense(graph: _Graph, name: str, x: str, weight: NDArray[np.float32], bias: NDArray[np.float32]) -> str:
    product = _product(graph, name, x, weight)
    return graph.add("Add", [product, graph.constant(f"{name}.bias", bias)], name)


def _layer(graph: _Graph, weights: Mapping[str, NDArray[np.float32]], layer: str, x: str) -> str:
    def linear(name: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        return weights[f"{layer}.{name}.weight"], weights[f"{layer}.{name}.bias"]

    def heads(name: str, y: str, order: list[int]) -> str:
        graph.add("Reshape", [y, "split_heads"], f"{name}.heads")
        return graph.add("Transpose", [f"{name}.heads"], f"{name}.split", perm=order)

    attention = f"{layer}.attention.self"
    # The scale of the scores is folded into the query. The key's bias adds one number to all scores of a query, which
    # the softmax takes away again; the value's bias passes the softmax's weights (sum 1) into the output's bias.
    scale = np.float32((WIDTH // HEADS) ** -0.5)
    weight, bias = linear("attention.self.query")
    query = _dense(graph, f"{attention}.query", x, weight * scale, bias * scale)
    key = _product(graph, f"{attention}.key", x, linear("attention.self.key")[0])
    weight, value_bias = linear("attention.self.value")
    value = _product(graph, f"{attention}.value", x, weight)

    query = heads(f"{attention}.query", query, [0, 2, 1, 3])
    key = heads(f"{attention}.key", key, [0, 2, 3, 1])
    value = heads(f"{attention}.value", value, [0, 2, 1, 3])
    graph.add("MatMul", [query, key], f"{attention}.scores")
    graph.add("Softmax", [f"{attention}.scores"], f"{attention}.shares", axis=-1)
    graph.add("MatMul", [f"{attention}.shares", value], f"{attention}.heads")
    graph.add("Transpose", [f"{attention}.heads"], f"{attention}.joining", perm=[0, 2, 1, 3])
    graph.add("Reshape", [f"{attention}.joining", "join_heads"], attention)

    weight, bias = linear("attention.output.dense")
    mixed = _dense(graph, f"{layer}.attention.output.dense", attention, weight, bias + weight @ value_bias)
    x = graph.add("Add", [mixed, x], f"{layer}.attention.output")
    x = _normalise(graph, weights, f"{layer}.attention.output.LayerNorm", x)

    wide = _dense(graph, f"{layer}.intermediate.dense", x, *linear("intermediate.dense"))
    wide = graph.add("Gelu", [wide], f"{layer}.intermediate")
    narrow = _dense(graph, f"{layer}.output.dense", wide, *linear("output.dense"))
    x = graph.add("Add", [narrow, x], f"{layer}.output")
    return _normalise(graph, weights, f"{layer}.output.LayerNorm", x)
