"""What a model directory holds, whether it is still what was exported, and how fast it is here."""

import math
import statistics
import time
from pathlib import Path

import msgspec
import numpy as np

from worker.model.directory import KNOWN_ANSWERS, MODEL_FILE, KnownAnswers, read_json
from worker.model.reference_profile import ReferenceProfile, read_profile
from worker.model.scorer import InferenceError
from worker.model.session import OnnxModel

LENGTHS_TOKENS = (16, 64, 256, 512)
BATCH_TOKENS = 512
ROUNDS = 5


class Architecture(msgspec.Struct, frozen=True):
    """The part of a DistilBERT's `config.json` that gives its size."""

    model_type: str
    n_layers: int
    n_heads: int
    dim: int
    hidden_dim: int
    vocab_size: int
    max_position_embeddings: int
    id2label: dict[str, str]

    @property
    def parameters(self) -> int:
        """Weights and biases, of embeddings, layers and classifier."""
        norm = 2 * self.dim
        embeddings = (self.vocab_size + self.max_position_embeddings) * self.dim + norm
        attention = 4 * self.dim * (self.dim + 1) + norm
        feed_forward = self.hidden_dim * (2 * self.dim + 1) + self.dim + norm
        classifier = self.dim * (self.dim + 1) + len(self.id2label) * (self.dim + 1)
        return embeddings + self.n_layers * (attention + feed_forward) + classifier


class Timing(msgspec.Struct, frozen=True):
    """One thread, texts of equal length in batches of at most 512 tokens; CPU time, median."""

    tokens: int
    texts_per_s: float
    us_per_token: float


class Report(msgspec.Struct, frozen=True):
    """All that `streamgauge inspect` says; `worst_difference` is to the known answers, null: none could be had."""

    name: str
    version: str
    labels: tuple[str, ...]
    architecture: str
    parameters: int
    bytes: int
    quantization: str
    temperature: float
    license: str | None
    digest: str
    digest_matches: bool
    known_answers: int
    known_answers_match: bool
    worst_difference: float | None
    reference_profile: ReferenceProfile | None
    """Null: the directory has none."""
    timings: list[Timing]

    @property
    def sound(self) -> bool:
        return self.digest_matches and self.known_answers_match


def inspect(directory: Path) -> Report:
    """Read, check and time a model directory. Raises ConfigurationError if it cannot be loaded at all."""
    model = OnnxModel.without_answers(directory, BATCH_TOKENS)
    shape = read_json(directory / "config.json", Architecture)
    known = read_json(directory / KNOWN_ANSWERS, KnownAnswers)
    try:
        worst = max(model.deviation(answer) for answer in known.texts)
    except InferenceError:
        worst = math.inf
    own = model.config.streamgauge
    return Report(
        name=model.ref.name,
        version=model.ref.version,
        labels=model.labels,
        architecture=f"{shape.model_type}, {shape.n_layers} layers, {shape.dim} wide, {shape.n_heads} heads",
        parameters=shape.parameters,
        bytes=(directory / MODEL_FILE).stat().st_size,
        quantization=model.session.get_modelmeta().custom_metadata_map.get("quantization", "none"),
        temperature=own.temperature,
        license=own.license,
        digest=model.ref.digest,
        digest_matches=known.digest == model.ref.digest,
        known_answers=len(known.texts),
        known_answers_match=worst <= known.tolerance,
        worst_difference=worst if math.isfinite(worst) else None,
        reference_profile=read_profile(directory),
        timings=[timing(model, tokens) for tokens in LENGTHS_TOKENS if tokens <= model.max_tokens],
    )


def timing(model: OnnxModel, tokens: int) -> Timing:
    """Score random tokens; raises InferenceError."""
    texts = BATCH_TOKENS // tokens
    highest = model.tokenizer.get_vocab_size()
    batch = np.random.default_rng(0).integers(0, highest, (texts, tokens)).tolist()
    spent_s = []
    for _round in range(ROUNDS + 1):
        began_s = time.thread_time()
        model.score(batch)
        spent_s.append(time.thread_time() - began_s)
    median_s = statistics.median(spent_s[1:])  # the first run allocates
    return Timing(tokens, round(texts / median_s, 1), round(median_s / (texts * tokens) * 1e6, 1))


def lines(report: Report) -> list[str]:
    """The report for a person to read."""
    worst = (
        "cannot be scored" if report.worst_difference is None else f"largest difference {report.worst_difference:.2g}"
    )
    return [
        f"model          {report.name}@{report.version}",
        f"labels         {', '.join(report.labels)}",
        f"architecture   {report.architecture}; {report.parameters / 1e6:.1f} M parameters",
        f"file           {report.bytes / 1e6:.1f} MB, quantisation {report.quantization}",
        f"temperature    {report.temperature:g}",
        f"licence        {report.license or 'not stated'}",
        f"digest         {report.digest} {'as recorded' if report.digest_matches else 'is NOT the one recorded'}",
        f"known answers  {report.known_answers} {'right' if report.known_answers_match else 'WRONG'}; {worst}",
        f"profile        {_profile(report.reference_profile)}",
        "tokens a text      texts/s  µs a token   (one thread, CPU time)",
        *(f"{row.tokens:>13} {row.texts_per_s:>12} {row.us_per_token:>11}" for row in report.timings),
    ]


def _profile(profile: ReferenceProfile | None) -> str:
    if profile is None:
        return "none (streamgauge export --data writes one)"
    quantiles = profile.token_length_quantiles
    return (
        f"{profile.accuracy:.1%} of {profile.labelled_texts} labelled texts right; mean confidence "
        f"{profile.mean_confidence:.1%}; {quantiles['0.5']} tokens in the median, 95 % have at most {quantiles['0.95']}"
    )
