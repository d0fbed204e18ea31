"""The dashboard *ML Model Monitoring*: how right the model is, how sure, how fast, and what the labels say."""

from grafana_foundation_sdk.builders.dashboard import Dashboard

from dashboards.panels import (
    PER_SECOND,
    Limit,
    Query,
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
    window,
)

NO_LABELS = "no labels yet"
NO_TEXTS = "no texts yet"
OF = '{model=~"$model", window="$window"}'
LOW = Limit(0.8, is_floor=True)
SLOW = Limit(2)


def build() -> Dashboard:
    """Title, variables and panels."""
    target = board(
        "ML Model Monitoring",
        "streamgauge-model",
        "Accuracy is from the recording rules, which add up partitions and copies of the listener. The window goes by "
        "when predictions were made; a label judges its prediction whenever it comes.",
    )
    target.annotation(firing_alerts()).with_variable(datasource())
    target.with_variable(choice("model", "Model", "label_values(streamgauge_model_info, model)"))
    target.with_variable(choice("replica", "Replica", 'label_values(up{job="streamgauge-worker"}, instance)'))
    target.with_variable(window())
    return fill(target, [("Now", NOW), ("Accuracy", ACCURACY), ("Predictions", PREDICTIONS), ("Labels", LABELS)])


NOW = [
    number(
        Words(
            "Accuracy now",
            "Share of judged predictions that are right.",
            "percentunit",
            NO_LABELS,
            "StreamgaugeAccuracyLow",
        ),
        Query(f"streamgauge:accuracy:ratio{OF}", "{{model}}"),
        limit=LOW,
    ),
    number(
        Words("Judged predictions", "How many predictions of the window have a label by now."),
        Query(f"sum(streamgauge:accuracy_samples:sum{OF}) or vector(0)"),
    ),
    number(
        Words("Texts per second", "Scored and committed, by all replicas.", PER_SECOND),
        Query('sum(streamgauge:texts:rate1m{model=~"$model"}) or vector(0)'),
    ),
    number(
        Words(
            "Latency now",
            "95th percentile from fetch to score, over five minutes.",
            "s",
            NO_TEXTS,
            "StreamgaugeLatencyHigh",
        ),
        Query('max(streamgauge:model_latency_seconds:p95_rate5m{model=~"$model"})'),
        limit=SLOW,
    ),
    number(
        Words(
            "Listeners ready",
            "Those that have read their topics to the end; without one there are no numbers here.",
            runbook="StreamgaugeAccuracyUnknown",
        ),
        Query("count(streamgauge_listener_ready == 1) or vector(0)"),
        limit=Limit(1, is_floor=True),
    ),
    number(
        Words("Alerts firing", "Streamgauge's alerts that fire now, whatever their severity."),
        Query('count(ALERTS{alertname=~"Streamgauge.+", alertstate="firing"}) or vector(0)'),
        limit=Limit(1),
    ),
]

ACCURACY = [
    graph(
        Words(
            "Accuracy",
            "With Wilson's 95 % interval, and what always predicting the most frequent class would score. "
            "The alert fires when the upper end of the interval lies below 80 %.",
            "percentunit",
            NO_LABELS,
            "StreamgaugeAccuracyLow",
        ),
        Query(f"streamgauge:accuracy:ratio{OF}", "{{model}}"),
        Query(f"streamgauge:accuracy_wilson_upper:ratio{OF}", "{{model}} upper", dashed=True),
        Query(f"streamgauge:accuracy_wilson_lower:ratio{OF}", "{{model}} lower", dashed=True),
        Query(f"streamgauge:accuracy_majority_baseline:ratio{OF}", "{{model}} baseline", dashed=True),
        limit=LOW,
        ratio=True,
        span=12,
    ),
    graph(
        Words(
            "Accuracy by window",
            "A recent drop shows in the short windows first.",
            "percentunit",
            NO_LABELS,
            "StreamgaugeAccuracyLow",
        ),
        Query('streamgauge:accuracy:ratio{model=~"$model"}', "{{model}} {{window}}"),
        limit=LOW,
        ratio=True,
        span=12,
    ),
    rows(
        Words(
            "Confusion",
            "Judged predictions: rows are what the label says, columns what was predicted.",
            "short",
            NO_LABELS,
            "StreamgaugeAccuracyLow",
        ),
        Query(f"sum by (expected, predicted) (streamgauge:judged_predictions:sum{OF})"),
        [("groupingToMatrix", {"columnField": "predicted", "rowField": "expected", "valueField": "Value"})],
    ),
    graph(
        Words("Precision, recall and F1", "By class.", "percentunit", NO_LABELS),
        Query(f"streamgauge:precision:ratio{OF}", "precision {{class}}"),
        Query(f"streamgauge:recall:ratio{OF}", "recall {{class}}"),
        Query(f"streamgauge:f1:ratio{OF}", "F1 {{class}}"),
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
            "How sure the model was of the judged predictions, how sure it is of what it predicts "
            "now, and how right it is. The alert fires when the first exceeds the interval of accuracy by 10 points.",
            "percentunit",
            NO_LABELS,
            "StreamgaugeConfidenceDiverges",
        ),
        Query(f"streamgauge:judged_confidence:mean{OF}", "{{model}} confidence, judged"),
        Query('streamgauge:confidence:mean_rate5m{model=~"$model"}', "{{model}} confidence, all"),
        Query(f"streamgauge:accuracy:ratio{OF}", "{{model}} accuracy"),
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
        limit=LOW,
        ratio=True,
    ),
]

PREDICTIONS = [
    graph(
        Words("Requests", "Texts scored and committed a second, by predicted label.", PER_SECOND, NO_TEXTS),
        Query(
            'sum by (label) (rate(ml_model_requests_total{model=~"$model", instance=~"$replica"}[$__rate_interval]))',
            "{{label}}",
        ),
        stacked=True,
    ),
    graph(
        Words(
            "Latency",
            "From fetch to score: tokenise, queue, infer. The alert is on the 95th percentile.",
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
    ),
    buckets(
        Words(
            "Confidence of predictions",
            "Probability of the predicted label, of all predictions. A shift means that the "
            "texts or the model have changed; no label is needed to see it.",
            "short",
            NO_TEXTS,
        ),
        Query(
            'sum by (le) (increase(ml_model_confidence_scores_bucket{model=~"$model", instance=~"$replica"}'
            "[$__rate_interval]))",
            "{{le}}",
        ),
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
        span=6,
    ),
    graph(
        Words("Label delay", "Mean time from a prediction to its label.", "s", NO_LABELS),
        Query(f"streamgauge:label_delay_seconds:mean{OF}", "{{model}}"),
        span=6,
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
        Query('max(streamgauge_labels{age="recent"}) or vector(0)', "received"),
        Query("streamgauge:waiting_labels:sum or vector(0)", "waiting"),
        Query("streamgauge:orphan_labels:sum or vector(0)", "orphans"),
        span=6,
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
        Query("sum(streamgauge:feedback_refused:sum) or vector(0)", "unreadable"),
        span=6,
    ),
]
