"""An ONNX graph as it is written down, node by node."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET, IR_VERSION = 18, 8


@dataclass
class Graph:
    """An ONNX graph as it grows."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, onnx.TensorProto] = field(default_factory=dict)

    def add(self, op: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        """Append a node; return the name of its output, or the names of several."""
        number = len(self.nodes)
        names = [f"{op}_{number}" if outputs == 1 else f"{op}_{number}.{index}" for index in range(outputs)]
        self.nodes.append(helper.make_node(op, inputs, names, name=f"{op}_{number}", **attributes))
        return names[0] if outputs == 1 else names

    def constant(self, name: str, value: Any) -> str:
        """Name of a constant; the first value given under a name is kept."""
        if name not in self.constants:
            self.constants[name] = numpy_helper.from_array(np.array(value, order="C"), name)
        return name

    def integers(self, *values: int) -> str:
        return self.constant("_".join(map(str, ("integers", *values))), np.array(values, np.int64))

    def number(self, value: float) -> str:
        return self.constant(f"number_{value:g}", np.float32(value))

    def model(self, output: str, labels: int) -> onnx.ModelProto:
        """The whole, from `input_ids` and `attention_mask` to `logits`."""
        tokens = [
            helper.make_tensor_value_info(name, TensorProto.INT64, ["batch_size", "sequence_length"])
            for name in ("input_ids", "attention_mask")
        ]
        self.nodes.append(helper.make_node("Identity", [output], ["logits"], name="logits"))
        logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch_size", labels])
        graph = helper.make_graph(self.nodes, "distilbert", tokens, [logits], list(self.constants.values()))
        opset = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, opset_imports=opset, ir_version=IR_VERSION, producer_name="streamgauge")
        helper.set_model_props(model, {"quantization": "int8-rows"})
        return model
