"""Store an ONNX model's large weights as int8 with float scales, and compute in fp32 as before.

ONNX Runtime's dynamic quantisation scales activations over the whole batch, so a text's score would depend
on its batch-mates. Here only the file is smaller: the graph turns weights back into floats. Cast and Mul do
it, not DequantizeLinear, because ONNX Runtime's default options fold them once, when it loads the model.
"""

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SMALLEST_STORED_AS_INT8 = 16_384  # elements; smaller tensors, such as biases, stay float


def quantise(weight: Any, axis: int) -> tuple[Any, Any]:
    """Symmetric int8 values, shaped like `weight`, and float32 scales that broadcast to it.

    Each slice along `axis` (an output channel or a table row) has a scale of its own.
    """
    others = tuple(other for other in range(weight.ndim) if other != axis)
    peak = np.abs(weight).max(axis=others, keepdims=True)
    scale = (np.where(peak == 0, 1, peak) / 127).astype(np.float32)
    return np.rint(weight / scale).astype(np.int8), scale


def store_int8(model: onnx.ModelProto) -> None:
    """Rewrite, in place, each large weight of a Gather (by row), MatMul or Gemm (by output channel)."""
    graph = model.graph
    floats = {
        tensor.name: tensor
        for tensor in graph.initializer
        if tensor.data_type == TensorProto.FLOAT and np.prod(tensor.dims) >= SMALLEST_STORED_AS_INT8
    }
    nodes = []
    for node in graph.node:
        name = next((name for name in node.input if name in floats), None)
        if name is None:
            nodes.append(node)
            continue
        weight = numpy_helper.to_array(floats[name])
        values, scale = quantise(weight, axis=_scaled_axis(node))
        graph.initializer.append(numpy_helper.from_array(values, f"{name}.int8"))
        graph.initializer.append(numpy_helper.from_array(scale, f"{name}.scale"))
        graph.initializer.remove(floats.pop(name))
        dequantised = _dequantised_gather if node.op_type == "Gather" else _dequantised_weight
        nodes += dequantised(node, name)
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.checker.check_model(model, full_check=True)


def _scaled_axis(node: onnx.NodeProto) -> int:
    """The axis of the node's weight that has a scale per slice: its rows or its output channels."""
    if node.op_type == "MatMul":
        return 1
    if node.op_type == "Gemm":
        return 0 if any(a.name == "transB" and a.i == 1 for a in node.attribute) else 1
    if node.op_type == "Gather":
        return 0
    raise ValueError(f"{node.op_type} has a large weight that this recipe cannot store as int8")


def _dequantised_weight(node: onnx.NodeProto, name: str) -> list[onnx.NodeProto]:
    """The whole weight is dequantised; a constant expression, hence folded when the model is loaded."""
    return [
        helper.make_node("Cast", [f"{name}.int8"], [f"{name}.cast"], to=TensorProto.FLOAT),
        helper.make_node("Mul", [f"{name}.cast", f"{name}.scale"], [name]),
        node,
    ]


def _dequantised_gather(node: onnx.NodeProto, name: str) -> list[onnx.NodeProto]:
    """Only the gathered rows are dequantised, at each run; the table stays int8 in memory."""
    indices, output = node.input[1], node.output[0]
    return [
        helper.make_node("Gather", [f"{name}.int8", indices], [f"{output}.int8"], axis=0),
        helper.make_node("Cast", [f"{output}.int8"], [f"{output}.cast"], to=TensorProto.FLOAT),
        helper.make_node("Gather", [f"{name}.scale", indices], [f"{output}.scale"], axis=0),
        helper.make_node("Mul", [f"{output}.cast", f"{output}.scale"], [output]),
    ]
