"""A model directory as something that scores texts: tokenizer, ONNX session, labels, known answers."""

import hashlib
import math
import os
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from streamgauge.errors import ConfigurationError, StreamgaugeError
from streamgauge.events import ModelRef

# Both read the environment when they are imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import onnxruntime as ort
from tokenizers import Tokenizer

TokenIds = Sequence[int]
Probabilities = NDArray[np.float64]
"""Shape (texts, labels)."""
SCORED_FILES = ("config.json", "model.onnx", "tokenizer.json")
"""What decides a score, and so makes the digest."""


class InferenceError(Exception):
    """The runtime failed on a batch; another batch may pass."""


class Scorer(Protocol):
    """Texts to probabilities. `encode` and `score` are called in threads, several at once."""

    @property
    def ref(self) -> ModelRef: ...
    @property
    def labels(self) -> tuple[str, ...]: ...

    def encode(self, texts: list[str]) -> list[tuple[TokenIds, bool]]:
        """Token ids of each text, and whether it was truncated."""

    def score(self, batch: Sequence[TokenIds]) -> Probabilities:
        """One row a text, one column a label. Raises InferenceError."""

    def verify(self) -> None:
        """Score the known-answer texts. Raises StreamgaugeError if an answer is wrong, or there is none."""


class KnownAnswer(msgspec.Struct, frozen=True):
    text: str
    scores: dict[str, float]


class KnownAnswers(msgspec.Struct, frozen=True):
    """`known-answers.json`: what the model of this digest says to some texts, and how far off another CPU may be."""

    digest: str
    tolerance: float
    texts: Annotated[list[KnownAnswer], msgspec.Meta(min_length=1)]


class Identity(msgspec.Struct, frozen=True):
    """Streamgauge's own section of `config.json`; the licence is an SPDX id."""

    name: str | None = None
    version: str | None = None
    license: str | None = None
    temperature: Annotated[float, msgspec.Meta(gt=0)] = 1.0


class Config(msgspec.Struct, frozen=True):
    """What the worker reads of a model's Hugging Face `config.json`."""

    id2label: Annotated[dict[str, str], msgspec.Meta(min_length=2)]
    streamgauge: Identity = Identity()
    pad_token_id: int = 0
    max_position_embeddings: int = 512

    @property
    def labels(self) -> tuple[str, ...]:
        """In the order of the model's output. Raises ValueError when a number lacks its label, or two share one."""
        labels = tuple(self.id2label.get(str(number), "") for number in range(len(self.id2label)))
        if len(set(labels) - {""}) < len(labels):
            raise ValueError("id2label must name each number from 0, each differently")
        return labels


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
        known = read_file(directory / "known-answers.json", KnownAnswers)
        if known.digest != model.ref.digest:
            raise ConfigurationError(
                f"STREAMGAUGE_WORKER_MODEL_DIR={directory}: known-answers.json is of another model: its digest is "
                f"{known.digest}, that of {', '.join(SCORED_FILES)} {model.ref.digest}"
            )
        return replace(model, known=known)

    @classmethod
    def without_answers(cls, directory: Path, max_tokens: int) -> "OnnxModel":
        """Read a model directory whose known answers are still to be written. Raises ConfigurationError."""
        config = read_file(directory / "config.json", Config)
        digest = f"sha256:{digest_of(directory)}"
        own = config.streamgauge
        name, version = own.name or directory.resolve().name, own.version or digest.removeprefix("sha256:")[:12]
        try:
            labels = config.labels
            tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
            session = ort.InferenceSession(directory / "model.onnx", _session_options(), ["CPUExecutionProvider"])
            _check_signature(session, len(labels))
        except Exception as error:  # both libraries raise bare Exceptions for files they cannot read
            raise ConfigurationError(f"STREAMGAUGE_WORKER_MODEL_DIR={directory}: cannot load: {error}") from error
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


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Row-wise softmax, shape kept."""
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=1, keepdims=True))


def _session_options() -> ort.SessionOptions:
    """One thread a run, several runs at once: on shared cores that beats one run with a barrier between threads."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return options


def digest_of(directory: Path) -> str:
    """SHA-256 over the SHA-256 of each file that decides a score. Raises ConfigurationError."""
    digest = hashlib.sha256()
    for name in SCORED_FILES:
        digest.update(hashlib.sha256(_bytes(directory / name)).digest())
    return digest.hexdigest()


def _check_signature(session: ort.InferenceSession, labels: int) -> None:
    """Raises ValueError unless the graph takes and gives what the worker feeds and reads."""
    inputs = sorted(value.name for value in session.get_inputs())
    if inputs != ["attention_mask", "input_ids"]:
        raise ValueError(f"model.onnx takes {inputs}, not attention_mask and input_ids")
    outputs = {value.name: value.shape for value in session.get_outputs()}
    if "logits" not in outputs or (isinstance(outputs["logits"][-1], int) and outputs["logits"][-1] != labels):
        raise ValueError(f"model.onnx gives {outputs}, not logits for {labels} labels")


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"STREAMGAUGE_WORKER_MODEL_DIR: cannot read {path}: {error.strerror}") from None


def read_file(path: Path, kind: type[Any]) -> Any:
    """Decode a JSON file of a model directory. Raises ConfigurationError naming it."""
    try:
        return msgspec.json.decode(_bytes(path), type=kind)
    except msgspec.DecodeError as error:
        raise ConfigurationError(f"STREAMGAUGE_WORKER_MODEL_DIR: {path}: {error}") from None
