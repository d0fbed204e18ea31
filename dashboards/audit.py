"""What *ML Model Monitoring* says of the audit: first in words for everybody, then what stands behind them."""

from dashboards.colors import GREEN, ORANGE, VERMILLION
from dashboards.panels import LISTENER, Limit, Query, Verdict, Words, graph, number, told_by

NO_AUDIT = "no audited labels yet, or no listener is ready"
NOTHING_AUDITED = "nothing audited yet, or no listener is ready"
NOTHING_MATURED = "no audited labels of matured minutes yet, or no listener is ready"
NO_LISTENER = "no listener is ready"
MODEL = '{model=~"$model"}'
OF = '{model=~"$model", window="$window"}'
FLOOR = Query("streamgauge:audit_accuracy_floor:ratio", "floor", dashed=True)
# 0.9 of the way, a false word comes about once in a hundred days. An audit without labels is at 0.8 after a month.
VERDICTS = (Verdict(0, "no sign of it", GREEN), Verdict(0.9, "perhaps", ORANGE), Verdict(1, "yes", VERMILLION))
ALARM = Limit(1)


def _once_judged(evidence: str) -> str:
    """Evidence of models that have a label at all: without one, nothing is known."""
    return (
        f"streamgauge:audit_{evidence}_evidence:ratio{MODEL} and on (model) streamgauge:audit_sequence_samples:max > 0"
    )


ANSWER = [
    number(
        Words(
            "How right are we",
            "Of the predictions that were picked by chance and checked by people, this share is right. The two shares "
            "beside it say how sure that is.",
            "percentunit",
            NO_AUDIT,
            "StreamgaugeAccuracyBelowFloor",
        ),
        Query(f"streamgauge:audit_sequence_accuracy:ratio{MODEL}", "{{model}}"),
        span=4,
    ),
    number(
        Words(
            "How sure are we",
            "The truth lies between these two, whenever you look: of all that is shown of a model in a year, that "
            "fails to hold in at most one case of twenty. Checked predictions bring the two nearer to each other, and "
            "picked ones that nobody checked keep them apart.",
            "percentunit",
            NO_AUDIT,
        ),
        Query(f"streamgauge:audit_accuracy_sequence_lower:ratio{MODEL}", "{{model}} at least"),
        Query(f"streamgauge:audit_accuracy_sequence_upper:ratio{MODEL}", "{{model}} at most"),
        span=6,
    ),
    number(
        Words(
            "From how many labels",
            "Checked predictions that say how sure we are. Its beginning moves on in steps of half the retention.",
            empty=NO_LISTENER,
        ),
        Query(told_by(LISTENER, f"sum(streamgauge:audit_sequence_samples:max{MODEL})")),
        span=3,
    ),
    number(
        Words(
            "Is it getting worse",
            "Two questions. Is it less often right than the least that was agreed on, the floor? Is it less often "
            "right than it believes itself to be? With the settings that come along, a false yes comes at most once "
            "a year for each question and model. No sign is no proof: with few labels, signs take days.",
            "percentunit",
            NO_AUDIT,
            "StreamgaugeConceptDrift",
        ),
        Query(_once_judged("level"), "{{model}} below the floor"),
        Query(_once_judged("drift"), "{{model}} below what it believes"),
        verdicts=VERDICTS,
        span=7,
    ),
]

AUDIT = [
    graph(
        Words(
            "Accuracy of the audit",
            "With two intervals. The confidence sequence holds at all times at once, of everything since its "
            "beginning. Wilson's 95 % interval describes the window, for one look: who looks often sees it miss the "
            "truth.",
            "percentunit",
            NO_AUDIT,
            "StreamgaugeAccuracyBelowFloor",
        ),
        Query(f"streamgauge:audit_accuracy:ratio{OF}", "{{model}} audit"),
        Query(f"streamgauge:audit_accuracy_sequence_upper:ratio{MODEL}", "{{model}} sequence, upper"),
        Query(f"streamgauge:audit_accuracy_sequence_lower:ratio{MODEL}", "{{model}} sequence, lower"),
        Query(f"streamgauge:audit_accuracy_wilson_upper:ratio{OF}", "{{model}} Wilson, upper", dashed=True),
        Query(f"streamgauge:audit_accuracy_wilson_lower:ratio{OF}", "{{model}} Wilson, lower", dashed=True),
        FLOOR,
        ratio=True,
    ),
    graph(
        Words(
            "Evidence of a drop",
            "How much speaks for an accuracy below the floor, and for one below what the confidences promise (concept "
            "drift). At 100 % the alerts fire. It is a share of logarithms: at a half, most of the way is left. Only "
            "minutes count that have matured, with the labels that came in time.",
            "percentunit",
            NOTHING_AUDITED,
            "StreamgaugeConceptDrift",
        ),
        Query(f"streamgauge:audit_level_evidence:ratio{MODEL}", "{{model}} below the floor"),
        Query(f"streamgauge:audit_drift_evidence:ratio{MODEL}", "{{model}} below its promise"),
        limit=ALARM,
        shown_to=1,
    ),
    graph(
        Words(
            "What all labels add",
            "Accuracy of all labels less that of the audit. Below 0, wrong answers are labelled more often than right "
            "ones; above 0, right ones. A fault of the labels, not of the model.",
            "percentunit",
            NO_AUDIT,
        ),
        Query(f"streamgauge:label_bias:difference{OF}", "{{model}}"),
        signed=True,
        shown_to=0.1,
    ),
    graph(
        Words(
            "Matured accuracy",
            "Accuracy of the audit in minutes whose horizon has passed, by labels that came within it. Late labels and "
            "corrections change the accuracy beside it, not this one. The alerts go by the same labels. Of 24 hours "
            "and of all.",
            "percentunit",
            NOTHING_MATURED,
        ),
        Query(f"streamgauge:audit_matured_accuracy:ratio{MODEL}", "{{model}} matured, {{window}}"),
        Query(
            'streamgauge:audit_accuracy:ratio{model=~"$model", window=~"24h|all"}',
            "{{model}} so far, {{window}}",
            dashed=True,
        ),
        ratio=True,
    ),
    graph(
        Words(
            "Best and worst case",
            "Accuracy of the audit if all that nobody has answered, although there was time, were right, or wrong. "
            "Far apart, the audit says little: those who answer may have chosen.",
            "percentunit",
            NOTHING_MATURED,
            "StreamgaugeAuditUnanswered",
        ),
        Query(f"streamgauge:audit_accuracy_best:ratio{MODEL}", "{{model}} best"),
        Query(f"streamgauge:audit_accuracy_worst:ratio{MODEL}", "{{model}} worst"),
        Query('streamgauge:audit_accuracy:ratio{model=~"$model", window="all"}', "{{model}} audit", dashed=True),
        ratio=True,
    ),
    graph(
        Words(
            "Answers of the audit",
            "Audited predictions that have a label, those without one that are within the horizon, and those that are "
            "older. `streamgauge audit` asks for them, the oldest first. Over everything retained.",
            "short",
            NOTHING_AUDITED,
            "StreamgaugeAuditUnanswered",
        ),
        Query(told_by(LISTENER, 'sum(streamgauge:audit_samples:max{model=~"$model", window="all"})'), "answered"),
        Query(told_by(LISTENER, f"sum(streamgauge:audit_pending:max{MODEL})"), "waiting"),
        Query(told_by(LISTENER, f"sum(streamgauge:audit_unanswered:max{MODEL})"), "unanswered"),
        stacked=True,
    ),
]
