"""The files of a model directory: what they hold, reading and writing them, and the digest of those that decide."""

import hashlib
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec

from streamgauge.errors import ConfigurationError

MODEL_FILE = "model.onnx"
SCORED_FILES = ("config.json", MODEL_FILE, "tokenizer.json")
"""What decides a score, and so makes the digest."""
WEIGHTS_ELSEWHERE = b"\n\x08location\x12"
"""In an ONNX file: the key of a tensor's `external_data` that names the file which holds it."""

T = TypeVar("T")


KNOWN_ANSWERS = "known-answers.json"


class KnownAnswer(msgspec.Struct, frozen=True):
    """A text and the probability of each label."""

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


def digest_of(directory: Path) -> str:
    """`sha256:` and SHA-256 over the SHA-256 of each file that decides a score. Raises ConfigurationError."""
    digest = hashlib.sha256()
    for name in SCORED_FILES:
        content = _bytes(directory / name)
        if name == MODEL_FILE and WEIGHTS_ELSEWHERE in content:
            raise ConfigurationError(f"{directory / name} keeps weights in other files: save it as one file")
        digest.update(hashlib.sha256(content).digest())
    return f"sha256:{digest.hexdigest()}"


def read_json(file: Path, kind: type[T]) -> T:
    """Decode a file of a model directory. Raises ConfigurationError, which names the file."""
    try:
        return msgspec.json.decode(_bytes(file), type=kind)
    except msgspec.DecodeError as error:
        raise ConfigurationError(f"{file}: {error}") from None


def write_json(file: Path, value: Any) -> None:
    """Write what `read_json` reads, in lines for people."""
    file.write_bytes(msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n")


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"cannot read {file}: {error.strerror}") from None
