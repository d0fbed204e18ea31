"""What the model card and the reference profile say, measured."""

import random
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from calibrate import BINS
from data import Example
from scoring import Floats, Integers, Model, batch_logits, probabilities
from tokenizers import Tokenizer
from training import token_ids

LABELS = ("NEGATIVE", "POSITIVE")
QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
LENGTH_RANGES = ((1, 16), (17, 32), (33, 512))
LONGEST = 512


def labels_of(examples: Sequence[Example]) -> Integers:
    return np.array([example.label for example in examples], dtype=np.int64)


def batch_effect(
    model: Model, rows: Sequence[Sequence[int]], temperature: float, batch_size: int = 8, seed: int = 1
) -> float:
    """The largest difference between a text's probability alone and in a random, padded batch."""
    order = random.Random(seed).sample(range(len(rows)), len(rows))
    largest = 0.0
    for start in range(0, len(order), batch_size):
        batch = [rows[row] for row in order[start : start + batch_size]]
        alone = probabilities(np.concatenate([batch_logits(model, [ids]) for ids in batch]), temperature)
        together = probabilities(batch_logits(model, batch), temperature)
        largest = max(largest, float(np.abs(together - alone).max()))
    return largest


def rows_of_mixed_length(rows: Sequence[Sequence[int]], count: int, seed: int) -> list[list[int]]:
    """Texts of 3 to 512 tokens, cut from the texts of `rows` put end to end; each keeps [CLS] and [SEP]."""
    chance = random.Random(seed)
    first, last = rows[0][0], rows[0][-1]
    stream = [token for ids in rows for token in ids[1:-1]]
    lengths = [LONGEST, *(chance.randint(3, LONGEST) for _ in range(count - 1))]
    starts = [chance.randrange(len(stream) - LONGEST) for _ in lengths]
    return [[first, *stream[at : at + n - 2], last] for at, n in zip(starts, lengths, strict=True)]


def run_milliseconds(models: Mapping[str, Model], batch: int, tokens: int, repeats: int) -> dict[str, float]:
    """Median CPU time of one run of each model on [batch, tokens], the models taking turns."""
    input_ids = np.random.default_rng(0).integers(1000, 30000, (batch, tokens))
    attention_mask = np.ones_like(input_ids)
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(repeats):
        for name, model in models.items():
            started = time.process_time()
            model(input_ids, attention_mask)
            seconds[name].append(time.process_time() - started)
    return {name: round(float(np.median(times)) * 1000, 1) for name, times in seconds.items()}


def reference_profile(train: Sequence[Sequence[int]], unknown: int, held_out_scores: Floats) -> dict[str, Any]:
    """What live data can be compared with: the training texts, as token ids with [CLS] and [SEP], and
    what the model says of texts that it was not trained on, as probabilities [texts, 2]."""
    lengths = [len(ids) for ids in train]
    confidence = held_out_scores.max(axis=1)
    positive = float(held_out_scores.argmax(axis=1).mean())
    histogram = np.histogram(confidence, BINS, (0, 1))[0] / len(confidence)
    return {
        "texts": len(train),
        "token_length_quantiles": {str(q): int(np.quantile(lengths, q, method="nearest")) for q in QUANTILES},
        "unknown_token_share": round(sum(ids.count(unknown) for ids in train) / sum(n - 2 for n in lengths), 6),
        "texts_with_unknown_tokens": round(sum(unknown in ids for ids in train) / len(train), 6),
        "scored_texts": len(confidence),
        "score_mix": dict(zip(LABELS, (round(1 - positive, 6), round(positive, 6)), strict=True)),
        "mean_confidence": round(float(confidence.mean()), 6),
        "confidence_histogram": histogram.round(6).tolist(),
    }


def accuracy_by_length(right: Any, rows: Sequence[Sequence[int]]) -> dict[str, Any]:
    """Of texts in ranges of token lengths; `right` is bool [texts]."""
    lengths = np.array([len(ids) for ids in rows])
    result = {}
    for low, high in LENGTH_RANGES:
        chosen = right[(lengths >= low) & (lengths <= high)]
        result[f"{low}-{high}"] = {"texts": len(chosen), "accuracy": round(float(chosen.mean()), 4)}
    return result


def known_answers(model: Model, tokenizer: Tokenizer, texts: Sequence[str], temperature: float) -> dict[str, Any]:
    """Each text scored alone, with the difference that another processor or runtime may make."""
    answers = []
    for text, ids in zip(texts, token_ids(tokenizer, texts), strict=True):
        scores = probabilities(batch_logits(model, [ids]), temperature)[0].round(6).tolist()
        answers.append({"text": text, "scores": dict(zip(LABELS, scores, strict=True))})
    return {"tolerance": 0.01, "texts": answers}
