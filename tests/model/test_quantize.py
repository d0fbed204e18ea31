"""Quantised by rows: near fp32, the same whatever the batch-mates, and within what every CPU can add."""

from collections.abc import Sequence

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import numpy_helper

from tests.model.tiny import CONFIG, POSITIONS, VOCABULARY, tiny_distilbert
from worker.model.scorer import softmax
from worker.model_making.quantize import MAX_PAIR, MAX_WEIGHT, QuantizeError, quantize, quantize_columns
from worker.settings import WorkerSettings

Matrix = NDArray[np.float32]
texts = st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=POSITIONS)


def session(model: onnx.ModelProto) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])


def scores(model: ort.InferenceSession, batch: Sequence[Sequence[int]]) -> NDArray[np.float64]:
    longest = max(len(ids) for ids in batch)
    ids = np.array([[*row, *[0] * (longest - len(row))] for row in batch], dtype=np.int64)
    mask = np.array([[1] * len(row) + [0] * (longest - len(row)) for row in batch], dtype=np.int64)
    [logits] = model.run(["logits"], {"input_ids": ids, "attention_mask": mask})
    return softmax(logits.astype(np.float64))


QUANTIZED = session(quantize(tiny_distilbert(), CONFIG))


@given(st.lists(texts, min_size=2, max_size=8))
def test_a_score_does_not_depend_on_batch_mates(batch: list[list[int]]) -> None:
    """Alone or among others, longer or shorter, a text has one score (1e-5)."""
    alone = np.concatenate([scores(QUANTIZED, [ids]) for ids in batch])
    assert np.abs(scores(QUANTIZED, batch) - alone).max() < 1e-5


@pytest.mark.parametrize("activation", ["gelu", "relu"])
def test_scores_stay_near_fp32(activation: str) -> None:
    """Rounding to int8 moves a probability by little, whichever activation function the model has."""
    random = np.random.default_rng(1)
    batch = [random.integers(0, VOCABULARY, length).tolist() for length in range(1, POSITIONS)]
    exact = tiny_distilbert(activation=activation)
    rounded = quantize(exact, CONFIG | {"activation": activation})
    difference = np.abs(scores(session(rounded), batch) - scores(session(exact), batch))
    assert 0 < difference.mean() < 0.005
    assert difference.max() < 0.03


def assert_no_pair_saturates(weights: NDArray[np.int8]) -> None:
    """uint8 x int8, added in pairs in 16 bits, as x86 without VNNI does: 255 * pair must fit into int16."""
    wide = weights.astype(np.int32)
    assert np.abs(wide).max() <= MAX_WEIGHT
    pairs = np.pad(wide, ((0, len(wide) % 2), (0, 0))).reshape(-1, 2, wide.shape[1])
    largest = max(int(np.clip(sign * pairs, 0, None).sum(axis=1).max()) for sign in (1, -1))
    assert largest <= MAX_PAIR
    assert 255 * largest <= np.iinfo(np.int16).max
    assert 255 * np.abs(wide).sum(axis=0).max() <= np.iinfo(np.int32).max


@given(
    st.integers(1, 9).flatmap(
        lambda rows: st.lists(
            st.lists(st.floats(-1e3, 1e3, width=32), min_size=rows, max_size=rows), min_size=1, max_size=4
        )
    )
)
def test_weights_never_saturate_and_are_near(columns: list[list[float]]) -> None:
    """Whatever the matrix: the static bound holds, and each weight is within half a step."""
    matrix: Matrix = np.array(columns, np.float32).T
    values, scales = quantize_columns(matrix)
    assert_no_pair_saturates(values)
    assert (np.abs(values * scales - matrix) <= 0.5001 * scales).all()


def test_the_default_model_saturates_nowhere() -> None:
    """Every integer matrix of the model that comes along keeps the static bound: one score on every CPU."""
    graph = onnx.load(WorkerSettings().model_dir / "model.onnx").graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    matrices = [constants[node.input[1]] for node in graph.node if node.op_type == "MatMulInteger"]
    assert len(matrices) == 25  # four a layer; the last asks with its first tokens alone
    for matrix in matrices:
        assert_no_pair_saturates(numpy_helper.to_array(matrix).astype(np.int8))
        assert matrix.data_type == onnx.TensorProto.INT8


def test_what_cannot_be_quantised_is_refused() -> None:
    """Another activation function, or a graph without DistilBERT's weights."""
    with pytest.raises(QuantizeError, match="activation 'silu': only gelu and relu"):
        quantize(tiny_distilbert(), CONFIG | {"activation": "silu"})
    with pytest.raises(QuantizeError, match=r"no weight '.*layer.2.*'"):
        quantize(tiny_distilbert(), CONFIG | {"n_layers": 3})
