"""A picture in words: its numbers as people read them, and all of it as one plain line. Pure."""

from itertools import islice

from feedback_listener.confidence_sequence import Interval
from feedback_listener.moment import Share
from streamgauge.commands.top.accuracy import Accuracy
from streamgauge.commands.top.flow import KEPT_S
from streamgauge.commands.top.picture import Lag, Picture, numbers
from streamgauge.commands.top.replicas import READY
from streamgauge.terminal import harmless


def one_line(picture: Picture, at: str) -> str:
    """The numbers of the moment `at`, and what is not known and why."""
    words = [at, *(f"{name} {n}" for name, n in picture.counts.items())]
    words.append(f"{rate(picture.records_per_s)} texts/s")
    words.append(f"latency p50 {duration(picture.p50_s)} p99 {duration(picture.p99_s)}")
    words.append(f"lag {lag_words(picture.lag)}")
    if "dead letters" not in picture.counts:
        words.append(f"dead letters {dead_letters(picture)}")
    words += [f"accuracy {accuracy_words(accuracy)}" for accuracy in picture.accuracies]
    workers = [f"{row.name} {row.state}" for row in picture.workers if row.state != READY]
    ready = sum(row.state == READY for row in picture.workers)
    words.append(f"workers {ready} ready" + "".join(f", {worker}" for worker in islice(workers, 5)))
    return harmless("  ".join([*words, *(f"! {problem}" for problem in picture.problems)]))


def accuracy_words(accuracy: Accuracy) -> str:
    """`92.1 %, 88.0 to 96.4 %, 240 labels (audit); …`; of several models each by its name."""
    audit = audit_words(accuracy)
    labels = share_words(accuracy.labels, accuracy.labels.interval)
    return f"{accuracy.model} audit {', '.join(filter(None, audit))}; all {', '.join(filter(None, labels))}"


def audit_words(accuracy: Accuracy) -> tuple[str, str, str]:
    """By the confidence sequence, as soon as there is one."""
    if accuracy.sequence:
        return share_words(accuracy.matured, accuracy.sequence)
    return share_words(accuracy.audit, accuracy.audit.interval)


def lag_words(lag: Lag) -> str:
    """What is known; of which partitions it is not."""
    if lag.records is None:
        return "not known"
    several = "s" if len(lag.unknown) > 1 else ""
    return f"{lag.records:,}" + (f" without partition{several} {numbers(lag.unknown)}" if lag.unknown else "")


def dead_letters(picture: Picture) -> str:
    return "not known" if picture.dead_letters is None else f"{picture.dead_letters:,} in {KEPT_S // 60} min"


def counts(picture: Picture) -> str:
    return ", ".join(f"{n:,} {name}" for name, n in picture.counts.items())


def count_or_dash(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def rate(per_s: float | None) -> str:
    """Whole texts a second, or one digit more where there are few."""
    return "-" if per_s is None else f"{per_s:,.0f}" if per_s >= 10 or not per_s else f"{per_s:.1f}"


def duration(seconds: float | None) -> str:
    """`87 ms`, `2.3 s`, `140 s`."""
    if seconds is None:
        return "-"
    return f"{1000 * seconds:.0f} ms" if seconds < 1 else f"{seconds:.1f} s" if seconds < 100 else f"{seconds:.0f} s"


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def share_words(share: Share, interval: Interval | None) -> tuple[str, str, str]:
    """The share, its interval, and of how many labels."""
    if not share.judged or not interval:
        return "no labels yet", "", ""
    between = f"{100 * interval.low:.1f} to {percent(interval.high)}"
    return percent(share.right / share.judged), between, f"{share.judged:,} label{'' if share.judged == 1 else 's'}"
