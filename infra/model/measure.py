"""What the model card says, measured."""

import random
import time
from collections.abc import Mapping, Sequence

import numpy as np

from infra.model.data import Example
from infra.model.scoring import Integers, Model, batch_logits, probabilities

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
