"""What the model card and the reference profile say, measured."""

import random
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from data import Example
from scoring import Floats, Model, probabilities, score, token_ids
from tokenizers import Tokenizer

LABELS = ("NEGATIVE", "POSITIVE")
QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
LENGTH_RANGES = ((1, 16), (17, 32), (33, 512))
LONGEST = 512


def correct(scores: Floats, examples: Sequence[Example]) -> Any:
    """Whether each text got its label, bool [texts]; `scores` is [texts, 2]."""
    return scores.argmax(axis=1) == np.array([example.label for example in examples])


def batch_effect(model: Model, rows: Sequence[Sequence[int]], batch_size: int, seed: int) -> float:
    """The largest difference between a text's probability alone and in a random, padded batch."""
    order = random.Random(seed).sample(range(len(rows)), len(rows))
    largest = 0.0
    for start in range(0, len(order), batch_size):
        batch = [rows[row] for row in order[start : start + batch_size]]
        alone = np.concatenate([probabilities(model, [ids]) for ids in batch])
        largest = max(largest, float(np.abs(probabilities(model, batch) - alone).max()))
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


def reference_profile(
    model: Model, tokenizer: Tokenizer, train: Sequence[Example], dev: Sequence[Example]
) -> dict[str, Any]:
    """The training data as the model sees it. Lengths are in tokens, with [CLS] and [SEP]."""
    rows = token_ids(tokenizer, [example.text for example in train])
    lengths = [len(ids) for ids in rows]
    unknown = tokenizer.token_to_id("[UNK]")
    scores = score(model, rows)
    positive = float(scores.argmax(axis=1).mean())
    return {
        "texts": len(rows),
        "token_length_quantiles": {str(q): int(np.quantile(lengths, q, method="nearest")) for q in QUANTILES},
        "unknown_token_share": sum(ids.count(unknown) for ids in rows) / sum(n - 2 for n in lengths),
        "score_mix": dict(zip(LABELS, (round(1 - positive, 6), round(positive, 6)), strict=True)),
        "mean_confidence": round(float(scores.max(axis=1).mean()), 6),
        "accuracy_by_length": _accuracy_by_length(model, tokenizer, dev),
    }


def known_answers(model: Model, tokenizer: Tokenizer, texts: Sequence[str]) -> dict[str, Any]:
    """Each text scored alone, with the difference that another processor or runtime may make."""
    answers = []
    for text, ids in zip(texts, token_ids(tokenizer, texts), strict=True):
        scores = probabilities(model, [ids])[0].round(6).tolist()
        answers.append({"text": text, "scores": dict(zip(LABELS, scores, strict=True))})
    return {"tolerance": 0.01, "texts": answers}


def _accuracy_by_length(model: Model, tokenizer: Tokenizer, dev: Sequence[Example]) -> dict[str, Any]:
    rows = token_ids(tokenizer, [example.text for example in dev])
    right = correct(score(model, rows), dev)
    lengths = np.array([len(ids) for ids in rows])
    result = {}
    for low, high in LENGTH_RANGES:
        chosen = right[(lengths >= low) & (lengths <= high)]
        result[f"{low}-{high}"] = {"texts": len(chosen), "accuracy": round(float(chosen.mean()), 4)}
    return result
