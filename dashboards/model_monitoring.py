"""The dashboard *ML Model Monitoring*: how right the model is, how sure that is, how fast, and what labels say."""

from grafana_foundation_sdk.builders.dashboard import Dashboard

from dashboards.audit import ANSWER, AUDIT, FLOOR, MODEL, NO_AUDIT, OF
from dashboards.panels import (
    LISTENER,
    PER_SECOND,
    WORKER,
    Limit,
    Query,
    Section,
    Words,
    bars,
    board,
    buckets,
    choice,
    datasource,
    fill,
    firing_alerts,
    graph,
    number,
    rows,
    told_by,
    window,
)

NO_LABELS = "no labels yet, or no listener is ready"
NO_TEXTS = "no texts now, or no worker answers"
NO_WORKER = "no worker answers"
NO_LISTENER = "no listener is ready"
SLOW = Limit(2)


def build() -> Dashboard:
    """Title, variables and panels."""
    target = board(
        "ML Model Monitoring",
        "streamgauge-model",
        "How right we are is told by the audit: predictions that were picked by chance. Confusion and calibration are "
        "of all labels, whoever sends them. The window goes by when predictions were made; a label judges its "
        "prediction whenever it comes. With several models, choose one.",
    )
    target.with_variable(datasource())
    for marks in firing_alerts():
        target.annotation(marks)
    target.with_variable(choice("model", "Model", "label_values(streamgauge_model_info, model)"))
    target.with_variable(choice("replica", "Replica", 'label_values(up{job="streamgauge-worker"}, instance)'))
    target.with_variable(window())
    first_screen: list[Section] = [("The model", MODEL_ITSELF), ("How right we are", [*ANSWER, *STATE])]
    below: list[Section] = [("Now", NOW), ("Accuracy", ACCURACY), ("Audit", AUDIT), ("Labels", LABELS)]
    return fill(target, first_screen, below)


MODEL_ITSELF = [
    graph(
        Words(
            "Model accuracy",
            "Of the audit, which chance picked; of all labels, which may come from those who complain; and estimated "
            "from the confidences of all predictions, which needs no label. With the floor, and what always predicting "
            "the most frequent class would score.",
            "percentunit",
            NO_LABELS,
            "StreamgaugeAccuracyBelowFloor",
        ),
        Query(f"streamgauge:audit_accuracy:ratio{OF}", "{{model}} audit"),
        Query(f"streamgauge:accuracy:ratio{OF}", "{{model}} all labels"),
        Query(f"streamgauge:estimated_accuracy:ratio{OF}", "{{model}} estimated"),
        Query(f"streamgauge:accuracy_majority_baseline:ratio{OF}", "{{model}} baseline", dashed=True),
        FLOOR,
        ratio=True,
        span=12,
    ),
    graph(
        Words(
            "Prediction latency",
            "From fetch to score: tokenise, queue, infer. The alert is on the 95th percentile. What takes more than 5 "
            "minutes is drawn at 5.",
            "s",
            NO_TEXTS,
            "StreamgaugeLatencyHigh",
        ),
        *(
            Query(
                f"histogram_quantile({q}, sum by (le) (rate(ml_model_latency_seconds_bucket"
                '{model=~"$model", instance=~"$replica"}[$__rate_interval])))',
                legend,
            )
            for q, legend in ((0.5, "median"), (0.95, "95th percentile"), (0.99, "99th percentile"))
        ),
        limit=SLOW,
        span=12,
    ),
    graph(
        Words("Requests", "Texts scored and committed a second, by predicted label.", PER_SECOND, NO_TEXTS),
        Query(
            'sum by (label) (rate(ml_model_requests_total{model=~"$model", instance=~"$replica"}[$__rate_interval]))',
            "{{label}}",
        ),
        stacked=True,
        span=12,
    ),
    buckets(
        Words(
            "Confidence distribution",
            "Probability of the predicted label, of all predictions. A shift means that the "
            "texts or the model have changed; no label is needed to see it.",
            "short",
            NO_TEXTS,
        ),
        Query(
            'sum by (le) (increase(ml_model_confidence_scores_bucket{le!="+Inf", model=~"$model", instance=~"$replica"}'
            "[$__rate_interval]))",
            "{{le}}",
        ),
        span=12,
    ),
]

NOW = [
    number(
        Words(
            "Accuracy of all labels",
            "Share of the window's judged predictions that are right, whoever labelled them.",
            "percentunit",
            NO_LABELS,
        ),
        Query(f"streamgauge:accuracy:ratio{OF}", "{{model}}"),
        span=6,
    ),
    number(
        Words(
            "Judged predictions",
            "How many predictions of the window have a label by now, of the shards that listeners serve.",
            empty=NO_LISTENER,
            runbook="StreamgaugeShardUnserved",
        ),
        Query(told_by(LISTENER, f"sum(streamgauge:accuracy_samples:sum{OF})")),
        span=6,
    ),
    number(
        Words("Texts per second", "Scored and committed, by all replicas.", PER_SECOND, NO_WORKER),
        Query(told_by(WORKER, 'sum(streamgauge:texts:rate1m{model=~"$model"})')),
        span=6,
    ),
    number(
        Words(
            "Latency now",
            "95th percentile from fetch to score, over five minutes.",
            "s",
            NO_TEXTS,
            "StreamgaugeLatencyHigh",
        ),
        Query(f'max(streamgauge:model_latency_seconds:p95_rate5m{{model=~"$model"}}) and on () {WORKER}'),
        limit=SLOW,
        span=6,
    ),
]

STATE = [
    number(
        Words(
            "Listeners ready",
            "Those that have read their topics to the end; without one there are no numbers here.",
            runbook="StreamgaugeAccuracyUnknown",
        ),
        Query("count(streamgauge_listener_ready == 1) or vector(0)"),
        limit=Limit(1, is_floor=True),
        span=2,
    ),
    number(
        Words("Alerts firing", "Streamgauge's alerts that fire now, whatever their severity."),
        Query('count(ALERTS{alertname=~"Streamgauge.+", alertstate="firing"}) or vector(0)'),
        limit=Limit(1),
        span=2,
    ),
]

ACCURACY = [
    graph(
        Words(
            "Accuracy by window",
            "Of the audit. A recent drop shows in the short windows first, and so does chance: a collapse is told by "
            "these, a smaller drop by *Evidence of a drop*.",
            "percentunit",
            NO_AUDIT,
            "StreamgaugeAccuracyCollapsed",
        ),
        Query(f"streamgauge:audit_accuracy:ratio{MODEL}", "{{model}} {{window}}"),
        FLOOR,
        ratio=True,
    ),
    rows(
        Words(
            "Confusion",
            "Judged predictions: rows are what the label says, columns what was predicted.",
            "short",
            NO_LABELS,
            "StreamgaugeAccuracyBelowFloor",
        ),
        Query(f"sum by (expected, predicted) (streamgauge:judged_predictions:sum{OF})"),
        [
            (
                "groupingToMatrix",
                {"columnField": "predicted", "rowField": "expected", "valueField": "Value", "emptyValue": "zero"},
            )
        ],
    ),
    graph(
        Words("Precision, recall and F1", "By class.", "percentunit", NO_LABELS),
        Query(f"streamgauge:precision:ratio{OF}", "precision {{class}}"),
        Query(f"streamgauge:recall:ratio{OF}", "recall {{class}}", dashed=True),
        Query(f"streamgauge:f1:ratio{OF}", "F1 {{class}}", dotted=True),
        ratio=True,
    ),
    bars(
        Words(
            "Calibration",
            "Accuracy of judged predictions by confidence. A bar is named by the lower edge of its bin: a "
            "calibrated model's is as long as its name says.",
            "percentunit",
            NO_LABELS,
            "StreamgaugeConfidenceDiverges",
        ),
        Query(
            f"sum by (bin) (streamgauge:calibration_bin_correct:sum{OF}) "
            f"/ (sum by (bin) (streamgauge:calibration_bin_predictions:sum{OF}) > 0)",
            "{{bin}}",
        ),
    ),
    graph(
        Words(
            "Calibration error and Brier score",
            "How far confidence and accuracy lie apart, on average; and the mean "
            "squared distance of scores and truth. Lower is better for both.",
            "short",
            NO_LABELS,
            "StreamgaugeConfidenceDiverges",
        ),
        Query(f"streamgauge:calibration_error:ratio{OF}", "{{model}} calibration error"),
        Query(f"streamgauge:brier:mean{OF}", "{{model}} Brier score"),
    ),
    graph(
        Words(
            "Confidence and accuracy",
            "How sure the model was of the judged predictions, how sure it is of what it predicts now, and how right "
            "all labels say that it is. The alert fires when the first exceeds the interval of the last by 10 points.",
            "percentunit",
            NO_LABELS,
            "StreamgaugeConfidenceDiverges",
        ),
        Query(f"streamgauge:judged_confidence:mean{OF}", "{{model}} confidence, judged"),
        Query('streamgauge:confidence:mean_rate5m{model=~"$model"}', "{{model}} confidence, all"),
        Query(f"streamgauge:accuracy:ratio{OF}", "{{model}} all labels"),
        ratio=True,
    ),
    graph(
        Words(
            "Accuracy as one listener sees it",
            "The tutorial's gauge, of each listener by itself: for a quick look. "
            "Only the recording rules add up partitions.",
            "percentunit",
            NO_LABELS,
        ),
        Query(f"ml_model_accuracy{OF}", "{{model}} {{instance}}"),
        ratio=True,
        span=24,
    ),
]

LABELS = [
    graph(
        Words(
            "Label coverage",
            "Share of the window's predictions that have a label by now.",
            "percentunit",
            NO_LABELS,
            "StreamgaugeNoFeedback",
        ),
        Query(f"streamgauge:label_coverage:ratio{OF}", "{{model}}"),
        ratio=True,
    ),
    graph(
        Words(
            "Label coverage by age",
            "Share of predictions that have a label by now, by how long ago they were made. If all ages are low, "
            "labels are missing; if only the young ones are, they are late.",
            "percentunit",
            "no predictions yet, or no listener is ready",
        ),
        Query(f"streamgauge:label_coverage_by_age:ratio{MODEL}", "{{model}} {{age}}"),
        ratio=True,
    ),
    graph(
        Words(
            "Label delay",
            "Time from a prediction to its label, of those that have one. Quantiles are as fine as the histogram: "
            "1, 5 and 15 minutes, 1 and 6 hours, 1, 3 and 7 days; below a minute they are a guess.",
            "s",
            NO_LABELS,
        ),
        Query(f"streamgauge:label_delay_seconds:p50{OF}", "{{model}} median"),
        Query(f"streamgauge:label_delay_seconds:p90{OF}", "{{model}} 90th percentile"),
        Query(f"streamgauge:label_delay_seconds:mean{OF}", "{{model}} mean", dashed=True),
    ),
    graph(
        Words(
            "Labels",
            "Retained labels of the last 23 hours, and those without a prediction: still waiting for it, or of the "
            "23 hours before, and so never to find it.",
            "short",
            NO_LABELS,
            "StreamgaugeLabelsUnmatched",
        ),
        Query('max(streamgauge_labels{age="recent"})', "received"),
        Query("streamgauge:waiting_labels:sum", "waiting"),
        Query("streamgauge:orphan_labels:sum", "orphans"),
        span=12,
    ),
    graph(
        Words(
            "What became of labels",
            "Labels beyond the one that judges: the same again, a correction, a contradiction by "
            "another source; labels whose class the model does not know; and records that cannot be read.",
            "short",
            NO_LABELS,
            "StreamgaugeLabelsUnmatched",
        ),
        Query(f"sum by (outcome) (streamgauge:prediction_labels:sum{OF})", "{{outcome}}"),
        Query("sum(streamgauge:feedback_refused:sum)", "unreadable"),
        span=12,
    ),
]
