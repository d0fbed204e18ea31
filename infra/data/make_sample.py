"""Make producer/sample.tsv from the ground truth of VADER: half reviews, half tweets, the same at every run.

    python infra/data/make_sample.py VADER producer/sample.tsv

VADER is the folder with amazonReviewSnippets_GroundTruth.txt and tweets_GroundTruth.txt: it is
additional_resources/hutto_ICWSM_2014 in https://github.com/cjhutto/vaderSentiment. Each line is
id, mean and text between tabs; the mean of the raters' votes lies between -4 and 4.
"""

import argparse
import csv
import html
import random
import re
from collections.abc import Iterator
from pathlib import Path

SOURCES = ("amazonReviewSnippets_GroundTruth.txt", "tweets_GroundTruth.txt")
TEXTS_PER_SOURCE = 1000
SEED = 2014
CLEAR_MEAN = 0.5
# The sample is the first thing that a newcomer sees on the screen.
COARSE = re.compile(r"nigg|\bfag|cunt|retard|bitch|slut|whore|fuck|shit", re.IGNORECASE)


def label(mean: float) -> str:
    """The raters' common sentiment; empty where they saw none, or did not agree."""
    if mean > CLEAR_MEAN:
        return "POSITIVE"
    return "NEGATIVE" if mean < -CLEAR_MEAN else ""


def read(path: Path) -> Iterator[tuple[str, str]]:
    """Text and label of each line with words, none of them coarse; HTML entities and blanks resolved."""
    with path.open(encoding="utf-8", newline="") as file:
        for _id, mean, text in csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
            clean = " ".join(html.unescape(text).split())
            if any(char.isalpha() for char in clean) and not COARSE.search(clean):
                yield clean, label(float(mean))


def main() -> None:
    """Write the sample."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("vader", type=Path, help="folder with the two ground truth files")
    parser.add_argument("output", type=Path, help="the .tsv file to write")
    arguments = parser.parse_args()
    dice = random.Random(SEED)  # noqa: S311 - a fixed choice, no secret
    rows: list[tuple[str, str]] = []
    for name in SOURCES:
        rows += dice.sample(list(read(arguments.vader / name)), TEXTS_PER_SOURCE)
    dice.shuffle(rows)
    lines = ["text\tlabel", *("\t".join(row) for row in rows)]
    arguments.output.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
