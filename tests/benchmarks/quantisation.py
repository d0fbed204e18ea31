"""What each way of quantising costs and saves: one table, every way on the same texts and batches, in turn.

    python -m tests.benchmarks.quantisation --float FP32/model.onnx --data dev.tsv [--model worker/default_model]

`--float`: what `streamgauge export --quantize none` writes for the checkpoint behind `--model`, whose tokenizer and
config.json are used. `--data`: texts and labels. "worker" are batches as the worker cuts them, up to 512 padded tokens;
"16" and "512" are texts of that many tokens. One thread; texts per CPU second, medians of rounds in which all take
turns. "batch-mates" is the largest change of a probability between a text alone and among others, "moved" the mean
change against fp32. With openvino and nncf installed, their static int8 is measured as well.
"""

import argparse
import random
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from producer.corpus import texts_and_labels
from worker.backlog import batch_window
from worker.model.scorer import Probabilities, TokenIds, softmax
from worker.model.session import OnnxModel
from worker.model_making.labelled_texts import LabelledTexts
from worker.model_making.quantize import quantize
from worker.settings import WorkerSettings

Feeds = dict[str, NDArray[np.int64]]
Run = Callable[[Feeds], NDArray[np.floating[Any]]]
BATCH_TOKENS, NBITS_BLOCK, CALIBRATION_BATCHES = 512, 128, 40


def feeds(batch: Sequence[TokenIds]) -> Feeds:
    ids = np.zeros((len(batch), max(map(len, batch))), dtype=np.int64)
    mask = np.zeros_like(ids)
    for row, tokens in enumerate(batch):
        ids[row, : len(tokens)] = tokens
        mask[row, : len(tokens)] = 1
    return {"input_ids": ids, "attention_mask": mask}


def worker_batches(rows: Sequence[TokenIds]) -> list[list[int]]:
    """The numbers of all texts, cut as the worker does when all of them wait."""
    waiting = sorted((len(ids), number) for number, ids in enumerate(rows))
    batches = []
    while waiting:
        oldest = min(range(len(waiting)), key=lambda index: waiting[index][1])
        window = batch_window(waiting, oldest, BATCH_TOKENS)
        batches.append([number for _tokens, number in waiting[window.start : window.stop]])
        del waiting[window.start : window.stop]
    return batches


def onnx_runtime(file: Path) -> Run:
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(file, options, ["CPUExecutionProvider"])
    return lambda given: np.asarray(session.run(["logits"], given)[0])


def nbits(model: onnx.ModelProto) -> onnx.ModelProto:
    """Constant matrices as MatMulNBits: 8 bits in blocks; accuracy level 4 multiplies in int8."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type != "MatMul" or node.input[1] not in constants:
            continue
        matrix = numpy_helper.to_array(constants[node.input[1]])
        blocks = matrix.T.reshape(matrix.shape[1], -1, NBITS_BLOCK)
        scales = (np.abs(blocks).max(axis=2) / 127).astype(np.float32)
        values = (np.rint(blocks / scales[..., None]) + 128).astype(np.uint8)
        names = [f"{node.output[0]}.{part}" for part in ("values", "scales")]
        parts = zip((values, scales), names, strict=True)
        model.graph.initializer.extend(numpy_helper.from_array(part, name) for part, name in parts)
        size = {"K": matrix.shape[0], "N": matrix.shape[1], "bits": 8, "block_size": NBITS_BLOCK, "accuracy_level": 4}
        node.CopyFrom(
            helper.make_node("MatMulNBits", [node.input[0], *names], node.output, domain="com.microsoft", **size)
        )
    used = {name for node in model.graph.node for name in node.input}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return model


def static_minmax(source: Path, target: Path, calibration: Sequence[Feeds]) -> None:
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc] # untyped
        def __init__(self) -> None:
            self.left = iter(calibration)

        def get_next(self) -> Feeds | None:
            return next(self.left, None)

    quantize_static(
        source, target, Reader(), activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, per_channel=True,
        op_types_to_quantize=["MatMul", "Gemm"], extra_options={"MatMulConstBOnly": True},
    )  # fmt: skip


def openvino_static(source: Path, target: Path, calibration: Sequence[Feeds]) -> Run:
    import nncf
    import openvino

    model = openvino.Core().read_model(source)
    quantized = nncf.quantize(model, nncf.Dataset(list(calibration)), model_type=nncf.ModelType.TRANSFORMER)
    openvino.save_model(quantized, target)
    options = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1}
    compiled = openvino.Core().compile_model(quantized, "CPU", options)
    return lambda given: np.asarray(compiled(given)["logits"])


def variants(
    source: Path, config: dict[str, Any], calibration: Sequence[Feeds], directory: Path
) -> Iterator[tuple[str, Run, float]]:
    """Name, way to score, size in MB."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    files = {"fp32": source}
    for name in ("dynamic int8, a scale a tensor", "static int8, MinMax", "MatMulNBits, 8 bits", "int8, a scale a row"):
        files[name] = directory / f"{len(files)}.onnx"
    _fp32, dynamic, static, blocks, rows = files.values()
    quantize_dynamic(source, dynamic, weight_type=QuantType.QInt8, per_channel=True)
    static_minmax(source, static, calibration)
    onnx.save(nbits(onnx.load(source)), blocks)
    onnx.save(quantize(onnx.load(source), config), rows)
    for name, file in files.items():
        yield name, onnx_runtime(file), file.stat().st_size / 1e6
    if find_spec("nncf") and find_spec("openvino"):
        run = openvino_static(source, directory / "ov.xml", calibration)
        yield "OpenVINO, static int8", run, (directory / "ov.bin").stat().st_size / 1e6


def scores(run: Run, rows: Sequence[TokenIds], batches: Sequence[Sequence[int]]) -> Probabilities:
    result = np.zeros((len(rows), run(feeds(rows[:1])).shape[1]))
    for batch in batches:
        result[batch] = softmax(run(feeds([rows[number] for number in batch])).astype(np.float64))
    return result


def batch_mates(run: Run, rows: Sequence[TokenIds]) -> float:
    """Texts of all lengths, alone and in random batches of six."""
    dice = random.Random(3)
    stream = [token for ids in rows for token in ids[1:-1]]
    chosen = list(dice.sample(rows, 120))
    for _text in range(40):
        length, start = dice.randint(3, 400), dice.randrange(len(stream) - 400)
        chosen.append([rows[0][0], *stream[start : start + length], rows[0][-1]])
    dice.shuffle(chosen)
    alone = scores(run, chosen, [[number] for number in range(len(chosen))])
    together = scores(run, chosen, [range(start, min(start + 6, len(chosen))) for start in range(0, len(chosen), 6)])
    return float(np.abs(together - alone).max())


def texts_per_cpu_s(runs: Sequence[Run], loads: Sequence[Sequence[Feeds]], rounds: int) -> list[list[float]]:
    """For each way of running and each load; the first round warms up."""
    spent: list[list[list[float]]] = [[[] for _load in loads] for _run in runs]
    for _round in range(rounds + 1):
        for run, by_load in zip(runs, spent, strict=True):
            for load, seconds in zip(loads, by_load, strict=True):
                began = time.process_time()
                for given in load:
                    run(given)
                seconds.append(time.process_time() - began)
    texts = [sum(len(given["input_ids"]) for given in load) for load in loads]
    return [
        [count / statistics.median(seconds[1:]) for count, seconds in zip(texts, by_load, strict=True)]
        for by_load in spent
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--float", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", type=Path, default=WorkerSettings().model_dir)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    model = OnnxModel.without_answers(given.model, BATCH_TOKENS)
    data = LabelledTexts(str(given.data), *texts_and_labels(given.data)).judged_by(model.labels)
    rows = [ids for ids, _truncated in model.encode(data.texts)]
    expected = np.array([model.labels.index(label) for label in data.labels])
    batches = worker_batches(rows)
    real = [feeds([rows[number] for number in batch]) for batch in batches]
    dice = np.random.default_rng(0)
    short, long = ([feeds(dice.integers(1000, 30000, shape).tolist())] * 4 for shape in ((32, 16), (1, 512)))
    config = msgspec.json.decode((given.model / "config.json").read_bytes())
    with TemporaryDirectory() as directory:
        ways = list(variants(given.float, config, real[:CALIBRATION_BATCHES], Path(directory)))
    speeds = texts_per_cpu_s([run for _name, run, _mb in ways], [real, short, long], given.rounds)
    exact = scores(ways[0][1], rows, batches)
    print(f"{'':31} {'right':>7} {'moved':>7} {'batch-mates':>11} {'MB':>6}   texts per CPU second: worker, 16, 512")
    for (name, run, megabytes), speed in zip(ways, speeds, strict=True):
        own = scores(run, rows, batches)
        right, moved = (own.argmax(axis=1) == expected).mean(), np.abs(own - exact).mean()
        relative = "  ".join(f"{one:7.1f} ({one / fp32:.2f}x)" for one, fp32 in zip(speed, speeds[0], strict=True))
        print(f"{name:31} {right:7.2%} {moved:7.4f} {batch_mates(run, rows):11.1e} {megabytes:6.1f}   {relative}")


if __name__ == "__main__":
    main()
