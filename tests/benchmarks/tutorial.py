"""One message at a time through a Transformers pipeline, with the weights of a model directory in fp32; no Kafka.

    PYTHON tests/benchmarks/tutorial.py MODEL_DIR TEXTS_FILE
    PYTHON tests/benchmarks/tutorial.py MODEL_DIR --save CHECKPOINT

PYTHON must have torch, transformers and onnx. Nothing of this project is imported, so nothing else is needed. It says
that it is ready, scores when it is told to, and says what it did; see `contestants.ceiling`. With `--save` it
only writes the weights as a checkpoint, of which `streamgauge export --quantize none` makes a model directory in fp32.
"""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from transformers import (
    DistilBertConfig,
    DistilBertForSequenceClassification,
    PreTrainedTokenizerFast,
    TextClassificationPipeline,
)

LEAST_GELU = -0.17
"""What `worker/model_making/quantize.py` takes off an activation, and puts back into the next bias."""
MAX_DIFFERENCE = 0.05
"""Of a known answer: more than the rounding of activations explains."""


class Graph:
    """An ONNX graph whose constants can be asked for, int8 ones with a scale being turned into floats."""

    def __init__(self, file: Path) -> None:
        graph = onnx.load(file).graph
        self.constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
        self.nodes = list(graph.node)
        self._makers = {output: node for node in self.nodes for output in node.output}

    def scaled(self) -> Iterator[tuple[str, Any]]:
        """Constants stored as NAME.int8 and NAME.scale, by NAME."""
        for name, values in self.constants.items():
            base = name.removesuffix(".int8")
            if base != name:
                yield base, values * self.constants[f"{base}.scale"]

    def value(self, name: str) -> Any:
        """A constant, or what Cast and Mul make of constants; None when it depends on the input."""
        if name in self.constants:
            return self.constants[name].astype(np.float32)
        maker = self._makers.get(name)
        if maker is None or maker.op_type not in ("Cast", "Mul"):
            return None
        factors = [self.value(source) for source in maker.input]
        return None if any(factor is None for factor in factors) else np.prod(np.broadcast_arrays(*factors), axis=0)


def weights_of(graph: Graph, head_size: int) -> Iterator[tuple[str, Any]]:
    """Names and values as PyTorch has them: of an export by optimum, its weights stored as int8 or not, or of a model
    that `worker/model_making/quantize.py` has rewritten."""
    for name, value in graph.constants.items():
        yield name, value
    for name, value in graph.scaled():
        module, _, part = name.rpartition(".")
        if part == "weight":  # a table of embeddings
            yield name, value
        elif part in ("q", "kv", "qkv"):
            yield from _projections(graph, module, part, value, head_size)
        else:
            yield f"{name}.weight", value.T
        if part == "lin2":
            yield f"{name}.bias", graph.constants[f"{name}.bias"] - LEAST_GELU * value.sum(axis=0)
    for node in graph.nodes:
        if node.op_type == "MatMul" and (value := graph.value(node.input[1])) is not None:
            # The exporter calls a node after its module.
            module = node.output[0].rsplit("/", 1)[0].strip("/").replace("/", ".")
            yield f"{module}.weight", value.T
        if node.op_type == "Gemm" and not any(attribute.name == "transB" for attribute in node.attribute):
            yield node.input[1], graph.constants[node.input[1]].T


def _projections(graph: Graph, module: str, kinds: str, value: Any, head_size: int) -> Iterator[tuple[str, Any]]:
    """Queries, keys and values, side by side in `value`. The scores' scale is in the queries; the keys' bias changes no
    score, and that of the values is in the output projection's.
    """
    for kind, matrix in zip(kinds, np.split(value, len(kinds), axis=1), strict=True):
        bias = graph.constants[f"{module}.q.bias"].ravel() if kind == "q" else np.zeros(matrix.shape[1])
        factor = head_size**0.5 if kind == "q" else 1
        yield f"{module}.{kind}_lin.weight", matrix.T * factor
        yield f"{module}.{kind}_lin.bias", bias * factor


def pipeline_of(directory: Path) -> TextClassificationPipeline:
    """The model directory as Transformers would run it. Raises SystemExit when it cannot be the same model."""
    config = DistilBertConfig.from_pretrained(directory)
    model = DistilBertForSequenceClassification(config)
    wanted = model.state_dict()
    weights = weights_of(Graph(directory / "model.onnx"), config.dim // config.n_heads)
    found = {name: value.astype(np.float32) for name, value in weights if name in wanted}
    if missing := sorted(set(wanted) - set(found)):
        sys.exit(f"not found in model.onnx: {', '.join(missing)}")
    temperature = getattr(config, "streamgauge", {}).get("temperature", 1.0)
    for name in ("classifier.weight", "classifier.bias"):  # the last: its output is what the temperature divides
        found[name] = found[name] / np.float32(temperature)
    model.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in found.items()})
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(directory / "tokenizer.json"),
        model_max_length=512,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_input_names=["input_ids", "attention_mask"],
    )
    pipeline = TextClassificationPipeline(model=model.eval(), tokenizer=tokenizer, device="cpu")
    for known in json.loads((directory / "known-answers.json").read_text())["texts"]:
        scores = {answer["label"]: answer["score"] for answer in pipeline(known["text"], top_k=None, truncation=True)}
        worst = max(abs(scores[label] - score) for label, score in known["scores"].items())
        if worst > MAX_DIFFERENCE:
            sys.exit(f"these are not the same weights: a known answer differs by {worst:.2f}")
    return pipeline


def main() -> None:
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    classify = pipeline_of(Path(sys.argv[1]))
    if sys.argv[2] == "--save":
        classify.save_pretrained(sys.argv[3])
        return
    texts = json.loads(Path(sys.argv[2]).read_text())
    tokens = sum(len(classify.tokenizer(text, truncation=True)["input_ids"]) for text in texts)
    print("ready", flush=True)
    sys.stdin.readline()
    for text in texts:
        classify(text, truncation=True)
    done = {"texts": len(texts), "batches": len(texts), "tokens": tokens, "padded_tokens": tokens}
    print(json.dumps(done), flush=True)
    sys.stdin.readline()


if __name__ == "__main__":
    main()
