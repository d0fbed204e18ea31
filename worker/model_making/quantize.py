"""Rewrite an exported DistilBERT classifier so that it computes in int8, each text by itself.

The usual dynamic quantisation has one scale per activation tensor, so a text's score depends on its batch-mates. Here
each activation row (one token) has a scale of its own, each weight column another, and the product is exact in int32::

    row scale = max |row| / 127                      ReduceMax over the row
    q         = round(row / row scale) + 128         QuantizeLinear along axis 0, uint8
    y         = (q - 128) @ w * column scale * row scale + bias

What the activation function gives is hardly negative: shifted by its least value, it uses all 255 levels. Biases of
keys change no share of attention, and those of values reach the output whole: they need not be quantised either.
Of the last layer only the first token is computed beyond keys and values, since the classifier reads no other.

Only `streamgauge export` imports this module: `onnx` comes with its extra.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from worker.model_making.graph import Graph

Array = NDArray[Any]
Weights = Mapping[str, Array]
"""By the names of a Hugging Face checkpoint; matrices are [inputs, outputs]."""

MAX_WEIGHT = 127
MAX_PAIR = 128
"""What two weights of like sign may add up to, of inputs 2i and 2i + 1 of a column.

x86 without VNNI multiplies uint8 by int8 and adds such pairs in 16 bits, saturating: 255 * 128 = 32,640 still fits.
"""
LEAST = {"gelu": -0.17, "relu": 0.0}
"""What each activation function is never below."""
LAYER_NORM_EPSILON = 1e-12
_BODY = "distilbert"
_PARTS = {
    "MatMul": ("weight",),
    "Add": ("bias",),
    "Gemm": ("weight", "bias"),
    "Gather": ("weight",),
    "LayerNormalization": ("weight", "bias"),
}
"""Which of a module's weights are the constants among a node's inputs."""


class QuantizeError(ValueError):
    """This module cannot rewrite the model: it lacks a part, or has one that is not known here."""


def quantize(model: onnx.ModelProto, config: Mapping[str, Any]) -> onnx.ModelProto:
    """An fp32 DistilBERT sequence classifier, as optimum exports it, computing in int8; `config`: its config.json.

    Inputs and output keep their names: `input_ids` and `attention_mask`, int64 [texts, tokens]; `logits`. Raises
    QuantizeError.
    """
    if config.get("activation") not in LEAST:
        raise QuantizeError(f"activation {config.get('activation')!r}: only {' and '.join(LEAST)} can be quantised")
    weights = checkpoint_weights(model)
    classifier = _Classifier(Graph(), weights, config["n_layers"], config["n_heads"], config["activation"])
    try:
        logits = classifier.logits()
    except KeyError as missing:
        raise QuantizeError(f"no weight {missing} in the exported model") from None
    result = classifier.graph.model(logits, labels=len(weights["classifier.bias"]))
    onnx.checker.check_model(result, full_check=True)
    return result


def checkpoint_weights(model: onnx.ModelProto) -> Weights:
    """Find each weight again, by the module that a node is named after, as in `/distilbert/…/q_lin/MatMul`.

    The constants' own names do not help: the exporter renames the matrices, and keeps one of several equal tensors.
    """
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    constants |= {node.output[0]: constants[node.input[0]] for node in model.graph.node if _is_copy(node, constants)}
    found = {}
    for node in model.graph.node:
        module = node.name.strip("/").rpartition("/")[0].replace("/", ".")
        given = (constants[name] for name in node.input if name in constants)
        for part, value in zip(_PARTS.get(node.op_type, ()), given, strict=False):
            transposed = node.op_type == "Gemm" and part == "weight" and any(a.name == "transB" for a in node.attribute)
            found[f"{module}.{part}"] = value.T if transposed else value
    return found


def _is_copy(node: onnx.NodeProto, constants: Mapping[str, Array]) -> bool:
    return node.op_type == "Identity" and node.input[0] in constants


def quantize_columns(matrix: Array) -> tuple[Array, Array]:
    """int8 values, shaped like `matrix` [inputs, outputs], and float32 scales [outputs], within both bounds."""
    pairs = np.pad(matrix, ((0, len(matrix) % 2), (0, 0))).reshape(-1, 2, matrix.shape[1])
    same_sign = np.maximum(np.clip(pairs, 0, None).sum(axis=1), np.clip(-pairs, 0, None).sum(axis=1))
    # The half unit is what rounding may add to each of a pair.
    scales = np.maximum(np.abs(matrix).max(axis=0) / MAX_WEIGHT, same_sign.max(axis=0) / (MAX_PAIR - 1))
    scales = np.where(scales == 0, 1, scales).astype(np.float32)
    return np.rint(matrix / scales).astype(np.int8), scales


def quantize_rows(table: Array) -> tuple[Array, Array]:
    """int8 values, shaped like `table`, and float32 scales [rows, 1]."""
    peaks = np.abs(table).max(axis=1, keepdims=True)
    scales = (np.where(peaks == 0, 1, peaks) / MAX_WEIGHT).astype(np.float32)
    return np.rint(table / scales).astype(np.int8), scales


@dataclass(frozen=True)
class _Rows:
    """Quantised activations: (uint8 [rows, columns] - zero) * float scales [rows, 1] + offset."""

    values: str
    scales: str
    zero: int = 128
    offset: float = 0.0


@dataclass
class _Classifier:
    """Adds DistilBERT to a graph. Hidden states are [rows, width], a row for each token of the batch."""

    graph: Graph
    weights: Weights
    layers: int
    heads: int
    activation: str

    def __post_init__(self) -> None:
        add, graph = self.graph.add, self.graph
        self.width = len(self.weights[f"{_BODY}.embeddings.LayerNorm.bias"])
        self.query_scale = np.float32((self.width // self.heads) ** -0.5)
        self.texts = add("Shape", "input_ids", start=0, end=1)
        self.tokens = add("Shape", "input_ids", start=1, end=2)
        shown = add("Cast", add("Unsqueeze", "attention_mask", graph.integers(1, 2)), to=TensorProto.FLOAT)
        hidden = add("Sub", graph.number(1), shown)
        self.mask = add("Mul", hidden, graph.constant("lowest", np.finfo(np.float32).min))

    def logits(self) -> str:
        states = self._embedded()
        for number in range(self.layers):
            states = self._layer(f"{_BODY}.transformer.layer.{number}", states, first_only=number == self.layers - 1)
        pooled = self.graph.add("Relu", self._float_linear("pre_classifier", states))
        return self._float_linear("classifier", pooled)

    def _embedded(self) -> str:
        add, graph = self.graph.add, self.graph
        table = f"{_BODY}.embeddings.position_embeddings.weight"
        every = graph.constant("positions", np.arange(len(self.weights[table])))
        positions = add("Slice", every, graph.integers(0), self.tokens)
        words = self._looked_up(f"{_BODY}.embeddings.word_embeddings.weight", "input_ids")
        both = add("Add", words, self._looked_up(table, positions))
        return self._flat(self._normalised(f"{_BODY}.embeddings.LayerNorm", both))

    def _layer(self, name: str, states: str, *, first_only: bool) -> str:
        """One transformer layer; `first_only`: for the first token of each text alone, [texts, width]."""
        add = self.graph.add
        asking = self._first_tokens(states) if first_only else states
        context = self._attention(f"{name}.attention", states, asking if first_only else None)
        attended = add("Add", self._attended(f"{name}.attention", context), asking)
        states = self._normalised(f"{name}.sa_layer_norm", attended)
        inner = self._activated(self._linear(f"{name}.ffn.lin1", self._quantized(states)))
        fed = add("Add", self._linear(f"{name}.ffn.lin2", self._quantized_activation(inner)), states)
        return self._normalised(f"{name}.output_layer_norm", fed)

    def _attention(self, name: str, states: str, asking: str | None) -> str:
        """Self-attention without its output projection; `asking`: the first tokens, if only they ask."""
        add, graph = self.graph.add, self.graph
        rows = self._quantized(states)
        if asking is None:
            query, key, value = self._heads(self._projected(name, "qkv", rows), 3, self.tokens)
        else:
            [query] = self._heads(self._projected(name, "q", self._quantized(asking)), 1, graph.integers(1))
            key, value = self._heads(self._projected(name, "kv", rows), 2, self.tokens)
        bias = (self.weights[f"{name}.q_lin.bias"] * self.query_scale).reshape(self.heads, 1, -1)
        query = add("Add", query, graph.constant(f"{name}.q.bias", bias))
        scores = add("MatMul", query, add("Transpose", key, perm=[0, 1, 3, 2]))
        shares = add("Softmax", add("Add", scores, self.mask), axis=-1)
        return self._flat(add("Transpose", add("MatMul", shares, value), perm=[0, 2, 1, 3]))

    def _projected(self, name: str, which: str, rows: _Rows) -> str:
        """Queries, keys or values without bias, or several side by side; scores are scaled in the queries' weights."""
        matrices = [
            self.weights[f"{name}.{kind}_lin.weight"] * (self.query_scale if kind == "q" else 1) for kind in which
        ]
        return self._product(f"{name}.{which}", rows, np.concatenate(matrices, axis=1))

    def _attended(self, name: str, context: str) -> str:
        """The output projection; shares of attention add up to 1, so the values' bias passes through as it is."""
        matrix, bias = self.weights[f"{name}.out_lin.weight"], self.weights[f"{name}.out_lin.bias"]
        bias = bias + self.weights[f"{name}.v_lin.bias"] @ matrix
        return self._product(f"{name}.out_lin", self._quantized(context), matrix, bias)

    def _heads(self, projected: str, count: int, tokens: str) -> list[str]:
        """[rows, count * width] to `count` tensors [texts, heads, tokens, width / heads]."""
        add, graph = self.graph.add, self.graph
        size = self.width // self.heads
        shape = add("Concat", self.texts, tokens, graph.integers(count, self.heads, size), axis=0)
        split = add("Transpose", add("Reshape", projected, shape), perm=[2, 0, 3, 1, 4])
        return [add("Gather", split, graph.constant(f"index_{i}", np.int64(i)), axis=0) for i in range(count)]

    def _quantized(self, states: str) -> _Rows:
        add, graph = self.graph.add, self.graph
        peaks = add("ReduceMax", add("Abs", states), graph.integers(-1), keepdims=0)
        # A least value, so that a row of zeros is not divided by zero.
        return self._rounded(states, add("Max", peaks, graph.number(1e-20)), levels=127, zero=128)

    def _quantized_activation(self, states: str) -> _Rows:
        add, graph = self.graph.add, self.graph
        least = LEAST[self.activation]
        shifted = add("Sub", states, graph.number(least)) if least else states
        peaks = add("Max", add("ReduceMax", shifted, graph.integers(-1), keepdims=0), graph.number(1e-20))
        return self._rounded(shifted, peaks, levels=255, zero=0, offset=least)

    def _rounded(self, states: str, peaks: str, *, levels: int, zero: int, offset: float = 0.0) -> _Rows:
        add, graph = self.graph.add, self.graph
        scales = add("Mul", peaks, graph.number(1 / levels))
        zeros = add("Expand", graph.constant(f"zeros_{zero}", np.array([zero], np.uint8)), add("Shape", scales))
        values = add("QuantizeLinear", states, scales, zeros, axis=0)
        return _Rows(values, add("Unsqueeze", scales, graph.integers(1)), zero, offset)

    def _linear(self, name: str, rows: _Rows) -> str:
        return self._product(name, rows, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"])

    def _product(self, name: str, rows: _Rows, matrix: Array, bias: Array | None = None) -> str:
        add, graph = self.graph.add, self.graph
        values, scales = quantize_columns(matrix)
        zero = graph.constant(f"zero_{rows.zero}", np.uint8(rows.zero))
        product = add("MatMulInteger", rows.values, graph.constant(f"{name}.int8", values), zero)
        scaled = add("Mul", add("Cast", product, to=TensorProto.FLOAT), graph.constant(f"{name}.scale", scales))
        result = add("Mul", scaled, rows.scales)
        if bias is None:
            return str(result)
        bias = bias + rows.offset * (values * scales).sum(axis=0)
        return str(add("Add", result, graph.constant(f"{name}.bias", bias.astype(np.float32))))

    def _float_linear(self, name: str, states: str) -> str:
        matrix, bias = (
            self.graph.constant(f"{name}.{part}", self.weights[f"{name}.{part}"]) for part in ("weight", "bias")
        )
        return str(self.graph.add("Gemm", states, matrix, bias))

    def _activated(self, states: str) -> str:
        add, graph = self.graph.add, self.graph
        if self.activation == "relu":
            return str(add("Relu", states))
        # The pattern that ONNX Runtime fuses into one GELU, with the bias before it.
        erf = add("Erf", add("Div", states, graph.number(2**0.5)))
        return str(add("Mul", add("Mul", states, add("Add", erf, graph.number(1))), graph.number(0.5)))

    def _looked_up(self, name: str, indices: str) -> str:
        """Rows of a table that stays int8 in memory."""
        add, graph = self.graph.add, self.graph
        values, scales = quantize_rows(self.weights[name])
        rows = add("Cast", add("Gather", graph.constant(f"{name}.int8", values), indices), to=TensorProto.FLOAT)
        return str(add("Mul", rows, add("Gather", graph.constant(f"{name}.scale", scales), indices)))

    def _normalised(self, name: str, states: str) -> str:
        scale, bias = (
            self.graph.constant(f"{name}.{part}", self.weights[f"{name}.{part}"]) for part in ("weight", "bias")
        )
        return str(self.graph.add("LayerNormalization", states, scale, bias, axis=-1, epsilon=LAYER_NORM_EPSILON))

    def _first_tokens(self, states: str) -> str:
        add, graph = self.graph.add, self.graph
        shape = add("Concat", self.texts, self.tokens, graph.integers(self.width), axis=0)
        return str(add("Gather", add("Reshape", states, shape), graph.constant("index_0", np.int64(0)), axis=1))

    def _flat(self, states: str) -> str:
        return str(self.graph.add("Reshape", states, self.graph.integers(-1, self.width)))
