"""A model directory as something that scores texts: tokenizer, ONNX session, labels, known answers."""

import hashlib
import os
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

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
    tolerance: float
    texts: list[KnownAnswer]


class Identity(msgspec.Struct, frozen=True):
    """Streamgauge's own section of `config.json`."""

    name: str | None = None
    version: str | None = None
    temperature: float = 1.0


class Config(msgspec.Struct, frozen=True):
    """What the worker reads of a model's Hugging Face `config.json`."""

    id2label: dict[str, str]
    streamgauge: Identity = Identity()
    pad_token_id: int = 0
    max_position_embeddings: int = 512


@dataclass(frozen=True)
class OnnxModel:
    """A DistilBERT sequence classifier exported to ONNX, on the CPU; one session, safe for threads."""

    ref: ModelRef
    labels: tuple[str, ...]
    _config: Config
    _tokenizer: Tokenizer
    _session: ort.InferenceSession
    _known: KnownAnswers
    _max_tokens: int

    @classmethod
    def load(cls, directory: Path, max_tokens: int) -> "OnnxModel":
        """Read a model directory. Raises ConfigurationError naming what is missing or wrong."""
        config = _read(directory / "config.json", Config)
        known = _read(directory / "known-answers.json", KnownAnswers)
        digest = hashlib.sha256()
        for name in SCORED_FILES:
            digest.update(hashlib.sha256(_bytes(directory / name)).digest())
        own = config.streamgauge
        ref = ModelRef(
            name=own.name or directory.resolve().name,
            version=own.version or digest.hexdigest()[:12],
            digest=f"sha256:{digest.hexdigest()}",
        )
        try:
            tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
            session = ort.InferenceSession(directory / "model.onnx", _session_options(), ["CPUExecutionProvider"])
        except Exception as error:  # both libraries raise bare Exceptions for files they cannot read
            raise ConfigurationError(f"STREAMGAUGE_WORKER_MODEL_DIR={directory}: cannot load: {error}") from error
        tokenizer.no_padding()
        tokenizer.no_truncation()
        labels = tuple(label for _index, label in sorted(config.id2label.items(), key=lambda item: int(item[0])))
        return cls(ref, labels, config, tokenizer, session, known, min(max_tokens, config.max_position_embeddings))

    def encode(self, texts: list[str]) -> list[tuple[TokenIds, bool]]:
        return [self._truncated(encoding.ids) for encoding in self._tokenizer.encode_batch_fast(texts)]

    def _truncated(self, ids: list[int]) -> tuple[TokenIds, bool]:
        """As C integers: a list would hold nine times as much memory while the text waits."""
        if len(ids) <= self._max_tokens:
            return array("i", ids), False
        return array("i", [*ids[: self._max_tokens - 1], ids[-1]]), True

    def score(self, batch: Sequence[TokenIds]) -> Probabilities:
        shape = len(batch), max(len(ids) for ids in batch)
        input_ids = np.full(shape, self._config.pad_token_id, dtype=np.int64)
        attention_mask = np.zeros(shape, dtype=np.int64)
        for row, ids in enumerate(batch):
            input_ids[row, : len(ids)] = ids
            attention_mask[row, : len(ids)] = 1
        try:
            [logits] = self._session.run(["logits"], {"input_ids": input_ids, "attention_mask": attention_mask})
        except Exception as error:  # whatever the runtime raises for this batch, the next may pass
            raise InferenceError(str(error)) from error
        if not np.isfinite(logits).all():
            raise InferenceError("logits that are no numbers")
        return softmax(logits.astype(np.float64) / self._config.streamgauge.temperature)

    def verify(self) -> None:
        for known in self._known.texts:
            [(ids, _truncated)] = self.encode([known.text])
            try:
                probabilities = dict(zip(self.labels, self.score([ids])[0], strict=True))
            except InferenceError as error:
                raise StreamgaugeError(f"model {self.ref.key} cannot score its known-answer texts: {error}") from error
            worst = max(abs(probabilities[label] - score) for label, score in known.scores.items())
            if not worst <= self._known.tolerance:
                raise StreamgaugeError(
                    f"model {self.ref.key} fails its known-answer texts by {worst:.3f} "
                    f"(allowed {self._known.tolerance}): "
                    "the files do not belong together, or this CPU computes it wrongly"
                )


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


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"STREAMGAUGE_WORKER_MODEL_DIR: cannot read {path}: {error.strerror}") from None


def _read(path: Path, kind: type[Any]) -> Any:
    try:
        return msgspec.json.decode(_bytes(path), type=kind)
    except msgspec.DecodeError as error:
        raise ConfigurationError(f"STREAMGAUGE_WORKER_MODEL_DIR: {path}: {error}") from None
