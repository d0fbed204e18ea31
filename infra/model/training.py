"""The loop that trains teacher and student alike; it can be stopped at any time and started again."""

import logging
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer

log = logging.getLogger(__name__)

Batch = list[int]
"""Numbers of the rows that are trained on together."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """How weights move: AdamW, its learning rate rising linearly to its peak, then falling linearly to zero."""

    learning_rate: float
    warmup_share: float = 0.06
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    save_every: int = 200  # steps


def token_ids(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of each text, with the tokens that mark its beginning and its end."""
    return [encoding.ids for encoding in tokenizer.encode_batch(list(texts))]


def pad(rows: Sequence[Sequence[int]], padding: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids padded on the right to the longest row, and their mask: int64 [rows, tokens] each."""
    longest = max(len(ids) for ids in rows)
    input_ids = torch.tensor([[*ids, *[padding] * (longest - len(ids))] for ids in rows])
    attention_mask = torch.tensor([[1] * len(ids) + [0] * (longest - len(ids)) for ids in rows])
    return input_ids, attention_mask


def batches(rows: Sequence[int], lengths: Sequence[int], size: int, order: random.Random) -> list[Batch]:
    """Cut `rows` into batches in random order; rows of like length share a batch, which saves padding."""
    shuffled = order.sample(rows, len(rows))
    bucket = size * 50
    for start in range(0, len(shuffled), bucket):
        shuffled[start : start + bucket] = sorted(shuffled[start : start + bucket], key=lambda row: lengths[row])
    cut = [shuffled[start : start + size] for start in range(0, len(shuffled), size)]
    order.shuffle(cut)
    return cut


def train(
    model: Any,
    plan: Sequence[Batch],
    loss_of: Callable[[Batch], torch.Tensor],
    schedule: Schedule,
    state_file: Path,
    after_step: Callable[[int], None] = lambda step: None,
) -> float:
    """Take a step for each batch of the plan, forward in bf16; `after_step` is told how many were taken.

    Return the seconds that it took, those before a stop included.

    `state_file` is written every so many steps; where it exists, training goes on from there. Whatever
    `after_step` keeps must be in `model` for that.
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, schedule.learning_rate, weight_decay=schedule.weight_decay, fused=True)
    warmup = int(schedule.warmup_share * len(plan))
    rate = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / (warmup + 1), (len(plan) - step) / (len(plan) - warmup))
    )
    parts = {"model": model, "optimizer": optimizer, "rate": rate}
    first, seconds_before = _resume(parts, state_file)
    started = time.monotonic()
    for step, batch in enumerate(plan[first:], start=first + 1):
        model.train()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = loss_of(batch)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, schedule.clip_norm)
        optimizer.step()
        rate.step()
        after_step(step)
        if step % 25 == 0:
            pace = (time.monotonic() - started) / (step - first)
            log.info("step %d of %d: loss %.3f, %.2f s a step", step, len(plan), loss.item(), pace)
        if step % schedule.save_every == 0:
            _save(parts, step, seconds_before + time.monotonic() - started, state_file)
    return seconds_before + time.monotonic() - started


def _save(parts: dict[str, Any], step: int, seconds: float, file: Path) -> None:
    """Write beside the file first: a stop in the middle leaves the older state."""
    state = {name: part.state_dict() for name, part in parts.items()}
    unfinished = file.with_suffix(".unfinished")
    torch.save({**state, "step": step, "seconds": seconds, "random": torch.get_rng_state()}, unfinished)
    unfinished.replace(file)


def _resume(parts: dict[str, Any], file: Path) -> tuple[int, float]:
    """Load the state, if there is one; return the steps and the seconds that it has behind it."""
    if not file.exists():
        return 0, 0.0
    state = torch.load(file, weights_only=True)
    for name, part in parts.items():
        part.load_state_dict(state[name])
    torch.set_rng_state(state["random"])
    log.info("going on after step %d", state["step"])
    return int(state["step"]), float(state["seconds"])
