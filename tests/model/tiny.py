"""A DistilBERT classifier of two layers in fp32, named as optimum's exporter names one; random, yet always the same."""

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

CONFIG: dict[str, Any] = {"n_layers": 2, "n_heads": 4, "activation": "gelu"}
VOCABULARY, POSITIONS, WIDTH, INNER, LABELS = 50, 40, 32, 64, 3


def tiny_distilbert(seed: int = 0, activation: str = "gelu") -> onnx.ModelProto:
    """An ONNX model; inputs `input_ids` and `attention_mask` of any shape, output `logits` for three labels."""
    return _Tiny(np.random.default_rng(seed), activation).model()


class _Tiny:
    def __init__(self, random: np.random.Generator, activation: str) -> None:
        self.random, self.activation = random, activation
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.shared = ""

    def add(self, op: str, *inputs: str, of: str = "", **attributes: Any) -> str:
        """Append a node, named after the module that it is `of`."""
        name = f"{op}_{len(self.nodes)}"
        self.nodes.append(
            helper.make_node(op, inputs, [name], f"/{of.replace('.', '/')}/{op}" if of else "", **attributes)
        )
        return name

    def constant(self, name: str, value: Any) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def integers(self, *values: int) -> str:
        return self.constant(f"integers_{len(self.constants)}", np.array(values, np.int64))

    def weight(self, name: str, *shape: int, spread: float = 0.2) -> str:
        values: NDArray[np.float32] = self.random.normal(0, spread, shape).astype(np.float32)
        return self.constant(name, values)

    def linear(self, name: str, states: str, inputs: int, outputs: int) -> str:
        matrix = self.weight(f"onnx::MatMul_{len(self.constants)}", inputs, outputs)
        if name.endswith(("k_lin", "v_lin")):  # the exporter keeps one of several equal tensors
            bias = self.shared = self.shared or self.weight(f"{name}.bias", outputs)
        else:
            bias = self.weight(f"{name}.bias", outputs)
        return self.add("Add", bias, self.add("MatMul", states, matrix, of=name), of=name)

    def norm(self, name: str, states: str) -> str:
        scale = self.constant(f"{name}.weight", (1 + self.random.normal(0, 0.1, WIDTH)).astype(np.float32))
        return self.add("LayerNormalization", states, scale, self.weight(f"{name}.bias", WIDTH), of=name, epsilon=1e-12)

    def heads(self, states: str) -> str:
        parts = self.add("Reshape", states, self.integers(0, 0, CONFIG["n_heads"], WIDTH // CONFIG["n_heads"]))
        return self.add("Transpose", parts, perm=[0, 2, 1, 3])

    def layer(self, name: str, states: str, mask: str) -> str:
        query, key, value = (
            self.heads(self.linear(f"{name}.attention.{kind}_lin", states, WIDTH, WIDTH)) for kind in "qkv"
        )
        root = self.constant(f"{name}.root", np.float32((WIDTH // CONFIG["n_heads"]) ** 0.5))
        scores = self.add("MatMul", self.add("Div", query, root), self.add("Transpose", key, perm=[0, 1, 3, 2]))
        context = self.add("MatMul", self.add("Softmax", self.add("Add", scores, mask), axis=-1), value)
        context = self.add("Reshape", self.add("Transpose", context, perm=[0, 2, 1, 3]), self.integers(0, 0, WIDTH))
        attended = self.linear(f"{name}.attention.out_lin", context, WIDTH, WIDTH)
        states = self.norm(f"{name}.sa_layer_norm", self.add("Add", attended, states))
        inner = self.linear(f"{name}.ffn.lin1", states, WIDTH, INNER)
        inner = self.add("Gelu" if self.activation == "gelu" else "Relu", inner)
        return self.norm(
            f"{name}.output_layer_norm", self.add("Add", self.linear(f"{name}.ffn.lin2", inner, INNER, WIDTH), states)
        )

    def looked_up(self, kind: str, rows: int, indices: str) -> str:
        name = f"distilbert.embeddings.{kind}_embeddings"
        return self.add("Gather", self.weight(f"{name}.weight", rows, WIDTH), indices, of=name)

    def classified(self, name: str, states: str, outputs: int) -> str:
        matrix, bias = self.weight(f"{name}.weight", outputs, WIDTH), self.weight(f"{name}.bias", outputs)
        return self.add("Gemm", states, matrix, bias, of=name, transB=1)

    def model(self) -> onnx.ModelProto:
        embeddings = "distilbert.embeddings"
        length = self.add("Shape", "input_ids", start=1, end=2)
        numbers = self.add("Slice", self.constant("numbers", np.arange(POSITIONS)), self.integers(0), length)
        states = self.add(
            "Add", self.looked_up("word", VOCABULARY, "input_ids"), self.looked_up("position", POSITIONS, numbers)
        )
        states = self.norm(f"{embeddings}.LayerNorm", states)
        shown = self.add("Cast", self.add("Unsqueeze", "attention_mask", self.integers(1, 2)), to=TensorProto.FLOAT)
        hidden = self.add("Sub", self.constant("one", np.float32(1)), shown)
        mask = self.add("Mul", hidden, self.constant("lowest", np.finfo(np.float32).min))
        for number in range(CONFIG["n_layers"]):
            states = self.layer(f"distilbert.transformer.layer.{number}", states, mask)
        first = self.add("Gather", states, self.constant("first", np.int64(0)), axis=1)
        pooled = self.add("Relu", self.classified("pre_classifier", first, WIDTH))
        self.nodes.append(helper.make_node("Identity", [self.classified("classifier", pooled, LABELS)], ["logits"]))
        inputs = [
            helper.make_tensor_value_info(name, TensorProto.INT64, ["batch_size", "sequence_length"])
            for name in ("input_ids", "attention_mask")
        ]
        logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch_size", LABELS])
        graph = helper.make_graph(self.nodes, "tiny", inputs, [logits], self.constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
