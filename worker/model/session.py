"""A model directory as something that scores texts: its tokenizer and an ONNX Runtime session."""

import math
import os
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from streamgauge.errors import ConfigurationError, StreamgaugeError
from streamgauge.events import ModelRef
from worker.model.directory import (
    KNOWN_ANSWERS,
    MODEL_FILE,
    SCORED_FILES,
    Config,
    KnownAnswer,
    KnownAnswers,
    digest_of,
    read_json,
)
from worker.model.scorer import InferenceError, Probabilities, TokenIds, softmax

# Both read the environment when they are imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import onnxruntime as ort
from tokenizers import Tokenizer


@dataclass(frozen=True)
class OnnxModel:
    """A DistilBERT sequence classifier exported to ONNX, on the CPU; one session, safe for threads."""

    ref: ModelRef
    labels: tuple[str, ...]
    config: Config
    tokenizer: Tokenizer
    session: ort.InferenceSession
    max_tokens: int
    known: KnownAnswers | None = None

    @classmethod
    def load(cls, directory: Path, max_tokens: int) -> "OnnxModel":
        """Read a model directory. Raises ConfigurationError naming what is missing or wrong."""
        model = cls.without_answers(directory, max_tokens)
        known = read_json(directory / KNOWN_ANSWERS, KnownAnswers)
        if known.digest != model.ref.digest:
            raise ConfigurationError(
                f"{directory}: {KNOWN_ANSWERS} is of another model: its digest is {known.digest}, that of "
                f"{', '.join(SCORED_FILES)} {model.ref.digest}"
            )
        return replace(model, known=known)

    @classmethod
    def without_answers(cls, directory: Path, max_tokens: int) -> "OnnxModel":
        """Read a model directory whose known answers are still to be written. Raises ConfigurationError."""
        config = read_json(directory / "config.json", Config)
        digest = digest_of(directory)
        own = config.streamgauge
        name, version = own.name or directory.resolve().name, own.version or digest.removeprefix("sha256:")[:12]
        try:
            labels = config.labels
            tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
            session = ort.InferenceSession(directory / MODEL_FILE, _session_options(), ["CPUExecutionProvider"])
            _check_signature(session, len(labels))
        except Exception as error:  # both libraries raise bare Exceptions for files they cannot read
            raise ConfigurationError(f"{directory}: cannot load: {error}") from error
        tokenizer.no_padding()
        tokenizer.no_truncation()
        ref = ModelRef(name=name, version=version, digest=digest)
        return cls(ref, labels, config, tokenizer, session, min(max_tokens, config.max_position_embeddings))

    def encode(self, texts: list[str]) -> list[tuple[TokenIds, bool]]:
        return [self._truncated(encoding.ids) for encoding in self.tokenizer.encode_batch_fast(texts)]

    def _truncated(self, ids: list[int]) -> tuple[TokenIds, bool]:
        """As C integers: a list would hold nine times as much memory while the text waits."""
        if len(ids) <= self.max_tokens:
            return array("i", ids), False
        return array("i", [*ids[: self.max_tokens - 1], ids[-1]]), True

    def score(self, batch: Sequence[TokenIds]) -> Probabilities:
        shape = len(batch), max(len(ids) for ids in batch)
        input_ids = np.full(shape, self.config.pad_token_id, dtype=np.int64)
        attention_mask = np.zeros(shape, dtype=np.int64)
        for row, ids in enumerate(batch):
            input_ids[row, : len(ids)] = ids
            attention_mask[row, : len(ids)] = 1
        try:
            [logits] = self.session.run(["logits"], {"input_ids": input_ids, "attention_mask": attention_mask})
        except Exception as error:  # whatever the runtime raises for this batch, the next may pass
            raise InferenceError(str(error)) from error
        if not np.isfinite(logits).all():
            raise InferenceError("logits that are no numbers")
        return softmax(logits.astype(np.float64) / self.config.streamgauge.temperature)

    def verify(self) -> None:
        if self.known is None:
            raise StreamgaugeError(f"model {self.ref.key} has no known-answer texts")
        try:
            worst = max(self.deviation(answer) for answer in self.known.texts)
        except InferenceError as error:
            raise StreamgaugeError(f"model {self.ref.key} cannot score its known-answer texts: {error}") from error
        if not worst <= self.known.tolerance:
            raise StreamgaugeError(
                f"model {self.ref.key} fails its known-answer texts by {worst:.3f} (allowed {self.known.tolerance}): "
                "the files do not belong together, or this CPU computes it wrongly"
            )

    def answer(self, text: str) -> KnownAnswer:
        """What the model says to one text. Raises InferenceError."""
        [(ids, _truncated)] = self.encode([text])
        scores = self.score([ids])[0].round(6).tolist()
        return KnownAnswer(text, dict(zip(self.labels, scores, strict=True)))

    def deviation(self, known: KnownAnswer) -> float:
        """The largest difference to a known answer; infinite if it is about other labels. Raises InferenceError."""
        scores = self.answer(known.text).scores
        if scores.keys() != known.scores.keys():
            return math.inf
        return max(abs(scores[label] - score) for label, score in known.scores.items())


def _session_options() -> ort.SessionOptions:
    """One thread a run, several runs at once: on shared cores that beats one run with a barrier between threads."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return options


def _check_signature(session: ort.InferenceSession, labels: int) -> None:
    """Raises ValueError unless the graph takes and gives what the worker feeds and reads."""
    inputs = sorted(value.name for value in session.get_inputs())
    if inputs != ["attention_mask", "input_ids"]:
        raise ValueError(f"model.onnx takes {inputs}, not attention_mask and input_ids")
    outputs = {value.name: value.shape for value in session.get_outputs()}
    if "logits" not in outputs or (isinstance(outputs["logits"][-1], int) and outputs["logits"][-1] != labels):
        raise ValueError(f"model.onnx gives {outputs}, not logits for {labels} labels")
