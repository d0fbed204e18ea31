"""Scoring with a PyTorch checkpoint or an ONNX file, in the same way."""

import os

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # before onnxruntime is imported, which reads it

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from transformers import DistilBertForSequenceClassification

from worker.model.scorer import Probabilities, softmax

BATCH_SIZE = 16

Floats = NDArray[np.floating]
Integers = NDArray[np.int64]
Model = Callable[[Integers, Integers], Floats]
"""Token ids and attention mask, int64 [batch, tokens], to logits, float32 [batch, 2]."""


def onnx_model(file: Path) -> Model:
    """An ONNX file on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])

    def logits(input_ids: Integers, attention_mask: Integers) -> Floats:
        [result] = session.run(["logits"], {"input_ids": input_ids, "attention_mask": attention_mask})
        return np.asarray(result)

    return logits


def torch_model(checkpoint: Path) -> Model:
    """A Hugging Face checkpoint in fp32."""
    model = DistilBertForSequenceClassification.from_pretrained(checkpoint).eval()

    def logits(input_ids: Integers, attention_mask: Integers) -> Floats:
        with torch.inference_mode():
            output = model(torch.from_numpy(input_ids), attention_mask=torch.from_numpy(attention_mask))
        return np.asarray(output.logits.numpy())

    return logits


def batch_logits(model: Model, rows: Sequence[Sequence[int]]) -> Floats:
    """Logits of one batch, padded to its longest text: float64 [texts, 2]."""
    longest = max(len(ids) for ids in rows)
    input_ids = np.zeros((len(rows), longest), dtype=np.int64)
    attention_mask = np.zeros_like(input_ids)
    for row, ids in enumerate(rows):
        input_ids[row, : len(ids)] = ids
        attention_mask[row, : len(ids)] = 1
    return model(input_ids, attention_mask).astype(np.float64)


def all_logits(model: Model, rows: Sequence[Sequence[int]]) -> Floats:
    """Logits of any number of texts, those of like length together: float64 [texts, 2], in the order given."""
    logits = np.empty((len(rows), 2))
    by_length = sorted(range(len(rows)), key=lambda row: len(rows[row]))
    for start in range(0, len(rows), BATCH_SIZE):
        batch = by_length[start : start + BATCH_SIZE]
        logits[batch] = batch_logits(model, [rows[row] for row in batch])
    return logits


def probabilities(logits: Floats, temperature: float) -> Probabilities:
    """Softmax of logits divided by the temperature, as the worker computes it; rows add up to 1."""
    return softmax(logits / temperature)
