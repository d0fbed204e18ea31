"""The dashboard *Streamgauge Operations*: how much flows, how far behind, where the time goes, who does the work."""

from grafana_foundation_sdk.builders.dashboard import Dashboard

from dashboards.panels import (
    PER_SECOND,
    Limit,
    Query,
    Section,
    Words,
    board,
    choice,
    datasource,
    fill,
    firing_alerts,
    graph,
    number,
    rows,
)

NO_TEXTS = "no texts yet"
NO_WORKER = "no worker yet"
OF = '{instance=~"$replica"}'
EACH = '{instance=~"$replica", partition=~"$partition"}'
SLOW = Limit(2)


def build() -> Dashboard:
    """Title, variables and panels."""
    target = board(
        "Streamgauge Operations",
        "streamgauge-operations",
        "Replicas are scraped separately and added up here: counts before ratios.",
    )
    target.annotation(firing_alerts()).with_variable(datasource())
    target.with_variable(choice("model", "Model", "label_values(streamgauge_model_info, model)"))
    target.with_variable(choice("replica", "Replica", 'label_values(up{job="streamgauge-worker"}, instance)'))
    target.with_variable(choice("partition", "Partition", "label_values(streamgauge_lag_records, partition)"))
    sections: list[Section] = [
        ("Now", NOW),
        ("Flow", FLOW),
        ("Lag and latency", LAG),
        ("Where the time goes", STAGES),
        ("Kafka", KAFKA),
        ("Processes", PROCESSES),
        ("Listener and alerts", LISTENER),
    ]
    return fill(target, sections)


def _mean(metric: str, by: str) -> str:
    """The mean of a histogram's observations; absent while there are none."""
    return (
        f"sum by ({by}) (rate({metric}_sum{OF}[$__rate_interval])) "
        f"/ (sum by ({by}) (rate({metric}_count{OF}[$__rate_interval])) > 0)"
    )


NOW = [
    number(
        Words("Texts per second", "Scored and committed, by all replicas.", PER_SECOND),
        Query('sum(streamgauge:texts:rate1m{model=~"$model"}) or vector(0)'),
    ),
    number(
        Words("Lag", "Records that wait in Kafka or in a worker.", runbook="StreamgaugeLagGrowing"),
        Query("streamgauge:lag_records:sum or vector(0)"),
        limit=Limit(1000),
    ),
    number(
        Words("Oldest record", "Age of the oldest record that a worker holds.", "s", runbook="StreamgaugeLagOld"),
        Query("streamgauge:lag_seconds:max or vector(0)"),
        limit=Limit(60),
    ),
    number(
        Words("Workers up", "Replicas that answer.", runbook="StreamgaugeNoWorker"),
        Query('count(up{job="streamgauge-worker"} == 1) or vector(0)'),
        limit=Limit(1, is_floor=True),
    ),
    number(
        Words("Unowned partitions", "Input partitions that no worker reads.", runbook="StreamgaugePartitionsUnowned"),
        Query("streamgauge:unowned_partitions:sum or vector(0)"),
        limit=Limit(1),
    ),
    number(
        Words(
            "Dead-letter share",
            "Of the records of the last five minutes.",
            "percentunit",
            NO_TEXTS,
            "StreamgaugeDeadLetters",
        ),
        Query("streamgauge:dead_letters:ratio_rate5m or vector(0)"),
        limit=Limit(0.05),
    ),
]

FLOW = [
    graph(
        Words(
            "Throughput",
            "Texts scored and committed a second, of each replica and of all.",
            PER_SECOND,
            runbook="StreamgaugeFewerWorkers",
        ),
        Query(
            'sum by (instance) (rate(ml_model_requests_total{model=~"$model", instance=~"$replica"}'
            "[$__rate_interval]))",
            "{{instance}}",
        ),
        Query('sum(rate(ml_model_requests_total{model=~"$model"}[$__rate_interval])) or vector(0)', "all", dashed=True),
        span=12,
    ),
    graph(
        Words("Dead letters", "Records refused a second, by reason.", PER_SECOND, runbook="StreamgaugeDeadLetters"),
        Query(f"sum by (reason) (rate(streamgauge_dead_letters_total{OF}[$__rate_interval])) > 0", "{{reason}}"),
        Query(f"sum(rate(streamgauge_dead_letters_total{OF}[$__rate_interval])) or vector(0)", "all", dashed=True),
        span=6,
    ),
    graph(
        Words(
            "Lost and truncated",
            "Records that the topic deleted before they were read, and texts longer than the model "
            "reads, in each minute.",
            "short",
            runbook="StreamgaugeRecordsLost",
        ),
        Query(f"sum(increase(streamgauge_records_lost_total{EACH}[1m])) or vector(0)", "lost"),
        Query(f"sum(increase(streamgauge_truncated_texts_total{OF}[1m])) or vector(0)", "truncated"),
        span=6,
    ),
]

LAG = [
    graph(
        Words(
            "Lag in records",
            "Records not yet committed, by input partition, as of the last fetch.",
            "short",
            NO_WORKER,
            "StreamgaugeLagGrowing",
        ),
        Query(f"max by (partition) (streamgauge_lag_records{EACH})", "{{partition}}"),
        stacked=True,
        span=6,
    ),
    graph(
        Words(
            "Lag in seconds", "Age of the oldest record held, by input partition.", "s", NO_WORKER, "StreamgaugeLagOld"
        ),
        Query(f"max by (partition) (streamgauge_lag_seconds{EACH})", "{{partition}}"),
        limit=Limit(60),
        span=6,
    ),
    graph(
        Words(
            "End-to-end latency",
            "From when the broker took a record to the commit of its outcome, all replicas.",
            "s",
            NO_TEXTS,
            "StreamgaugeLatencyBudgetBurns",
        ),
        Query("streamgauge:end_to_end_latency_seconds:p50_rate5m", "median"),
        Query("streamgauge:end_to_end_latency_seconds:p95_rate5m", "95th percentile"),
        Query("streamgauge:end_to_end_latency_seconds:p99_rate5m", "99th percentile"),
        limit=SLOW,
        span=6,
    ),
    graph(
        Words(
            "Latency budget",
            "Share of records that took longer than 2 s. The objective allows 1 %; at 14.4 % of an hour and "
            "of its last five minutes the fast alert fires.",
            "percentunit",
            NO_TEXTS,
            "StreamgaugeLatencyBudgetBurnsFast",
        ),
        Query("streamgauge:slow_records:ratio_rate5m", "5 minutes"),
        Query("streamgauge:slow_records:ratio_rate1h", "hour"),
        Query("streamgauge:slow_records:ratio_rate6h", "6 hours"),
        limit=Limit(0.144),
        span=6,
    ),
]

STAGES = [
    graph(
        Words(
            "Stages",
            "Mean time in a stage. A text is tokenised, queues for the model, is inferred with its batch, and waits "
            "for its transaction; publish is a transaction, commit its last step.",
            "s",
            NO_TEXTS,
            "StreamgaugeLatencyHigh",
        ),
        Query(_mean("streamgauge_stage_seconds", "stage"), "{{stage}}"),
    ),
    graph(
        Words("Stages, 95th percentile", "What one in twenty exceeds.", "s", NO_TEXTS, "StreamgaugeLatencyHigh"),
        Query(
            "histogram_quantile(0.95, sum by (stage, le) (rate(streamgauge_stage_seconds_bucket"
            f"{OF}[$__rate_interval])))",
            "{{stage}}",
        ),
    ),
    graph(
        Words(
            "Model utilisation",
            "Share of the model slots' time that is spent on batches. Near 1, the model is the "
            "bottleneck: add replicas.",
            "percentunit",
            NO_WORKER,
            "StreamgaugeLatencyHigh",
        ),
        Query(
            f"rate(streamgauge_model_busy_seconds_total{OF}[$__rate_interval]) / streamgauge_model_slots{OF}",
            "{{instance}}",
        ),
        ratio=True,
    ),
    graph(
        Words("Batches", "Mean number of texts in a batch, and mean of its tokens with padding.", "short", NO_TEXTS),
        Query(_mean("streamgauge_batch_texts", "instance"), "texts {{instance}}"),
        Query(_mean("streamgauge_batch_padded_tokens", "instance"), "tokens {{instance}}"),
    ),
    graph(
        Words("Padding", "Share of the computed tokens that is padding, all replicas.", "percentunit", NO_TEXTS),
        Query("streamgauge:padding:ratio_rate5m", "padding"),
        ratio=True,
    ),
    graph(
        Words("Tokens", "Tokens a second: of texts, and computed with padding.", PER_SECOND),
        Query(f"sum(rate(streamgauge_tokens_total{OF}[$__rate_interval])) or vector(0)", "of texts"),
        Query(f"sum(rate(streamgauge_padded_tokens_total{OF}[$__rate_interval])) or vector(0)", "computed"),
    ),
    graph(
        Words(
            "Credit in use",
            "Share of the records and bytes that may be between fetch and commit. At 1 nothing more is fetched.",
            "percentunit",
            NO_WORKER,
            "StreamgaugeNothingMoves",
        ),
        Query(f"streamgauge_credit_records{OF} / streamgauge_credit_records_limit{OF}", "records {{instance}}"),
        Query(f"streamgauge_credit_bytes{OF} / streamgauge_credit_bytes_limit{OF}", "bytes {{instance}}"),
        ratio=True,
    ),
    graph(
        Words("Queue depth", "Texts that are tokenised and wait for the model.", "short", NO_WORKER),
        Query(f"streamgauge_backlog_records{OF}", "{{instance}}"),
    ),
    graph(
        Words(
            "Failed batches",
            "Batches that the model failed on, in each minute; each is halved until the text that fails alone "
            "is found.",
            "short",
            runbook="StreamgaugeDeadLetters",
        ),
        Query(f"sum(increase(streamgauge_failed_batches_total{OF}[1m])) or vector(0)", "failed"),
    ),
]

KAFKA = [
    graph(
        Words(
            "Transactions",
            "A second, by outcome. What is aborted or fenced is done again.",
            PER_SECOND,
            NO_WORKER,
            "StreamgaugeTransactionsFail",
        ),
        Query(f"sum by (outcome) (rate(streamgauge_transactions_total{OF}[$__rate_interval]))", "{{outcome}}"),
    ),
    graph(
        Words(
            "Rebalances",
            "Times that the group gave out partitions, and that a partition was opened anew after an error, in "
            "each minute.",
            "short",
            runbook="StreamgaugeTransactionsFail",
        ),
        Query(f"sum(increase(streamgauge_rebalances_total{OF}[1m])) or vector(0)", "rebalances"),
        Query(f"sum(increase(streamgauge_partition_reopens_total{OF}[1m])) or vector(0)", "reopened partitions"),
    ),
    graph(
        Words(
            "Partitions owned",
            "Fenced and being read, by replica, and how many there are.",
            "short",
            NO_WORKER,
            "StreamgaugePartitionsUnowned",
        ),
        Query(f"streamgauge_partitions_owned{OF}", "{{instance}}"),
        Query("max(streamgauge_input_partitions)", "partitions", dashed=True),
    ),
]

PROCESSES = [
    graph(
        Words("Memory", "Resident, of each process.", "bytes", NO_WORKER),
        Query('process_resident_memory_bytes{job=~"streamgauge-.+"}', "{{job}} {{instance}}"),
    ),
    graph(
        Words("CPU", "Cores in use, of each process.", "short", NO_WORKER),
        Query('rate(process_cpu_seconds_total{job=~"streamgauge-.+"}[$__rate_interval])', "{{job}} {{instance}}"),
    ),
    graph(
        Words(
            "Event loop lag",
            "99th percentile of how late the loop ran a timer. Above 0.1 s something blocks it.",
            "s",
            NO_WORKER,
            "StreamgaugeLatencyHigh",
        ),
        Query(
            "histogram_quantile(0.99, sum by (instance, le) (rate(streamgauge_event_loop_lag_seconds_bucket"
            f"{OF}[$__rate_interval])))",
            "{{instance}}",
        ),
    ),
    graph(
        Words("Replicas", "Processes that answer, by job.", "short", NO_WORKER, "StreamgaugeTargetDown"),
        Query('sum by (job) (up{job=~"streamgauge-.+"})', "{{job}}"),
    ),
    graph(
        Words("Restarts", "Of each process, in half an hour.", "short", NO_WORKER, "StreamgaugeRestarts"),
        Query('changes(process_start_time_seconds{job=~"streamgauge-.+"}[30m])', "{{job}} {{instance}}"),
        limit=Limit(3),
    ),
    rows(
        Words("Versions", "Of Streamgauge and of the model, by replica.", "short", NO_WORKER),
        Query("streamgauge_build_info * on (instance) group_left (model, digest) streamgauge_model_info"),
        [("filterFieldsByName", {"include": {"names": ["instance", "version", "model", "digest"]}})],
    ),
]

LISTENER = [
    graph(
        Words(
            "Listener",
            "Records that each listener still has to read.",
            "short",
            "no listener yet",
            "StreamgaugeListenerBehind",
        ),
        Query("sum by (instance) (streamgauge_listener_lag_records)", "{{instance}}"),
        limit=Limit(1000),
    ),
    graph(
        Words("Listener store", "Size of each listener's file, which is a cache.", "bytes", "no listener yet"),
        Query("streamgauge_listener_store_bytes", "{{instance}}"),
    ),
    rows(
        Words("Alerts", "Pending and firing now; what to do stands in the runbooks.", "short", "none"),
        Query('ALERTS{alertname=~"Streamgauge.+"}'),
        [("filterFieldsByName", {"include": {"names": ["alertname", "alertstate", "severity", "instance", "model"]}})],
    ),
]
