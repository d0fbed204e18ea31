"""The dashboard *Streamgauge Operations*: how much flows, how far behind, where the time goes, who does the work."""

from grafana_foundation_sdk.builders.dashboard import Dashboard

from dashboards.panels import (
    PER_SECOND,
    WORKER,
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
    told_by,
)

NO_TEXTS = "no texts now, or no worker answers"
NO_WORKER = "no worker answers"
TOO_LITTLE = "too few texts to tell, or no worker answers"
NO_ANSWER = "no worker that brokers answer"
NO_LISTENER = "no listener answers"
NOBODY = "no process answers"
OF = '{instance=~"$replica"}'
EACH = '{instance=~"$replica", partition=~"$partition"}'
ARRIVALS = (
    "sum(max by (group, topic, partition) (rate(streamgauge_input_end_offset[$__rate_interval]) "
    "* on (instance) group_left (group, topic) max by (instance, group, topic) (streamgauge_worker_info)))"
)
SLOW = Limit(2)


def build() -> Dashboard:
    """Title, variables and panels."""
    target = board(
        "Streamgauge Operations",
        "streamgauge-operations",
        "Replicas are scraped separately and added up here: counts before ratios.",
    )
    target.with_variable(datasource())
    for marks in firing_alerts():
        target.annotation(marks)
    target.with_variable(choice("replica", "Replica", 'label_values(up{job="streamgauge-worker"}, instance)'))
    target.with_variable(choice("partition", "Partition", "label_values(streamgauge_lag_records, partition)"))
    first_screen: list[Section] = [("Now", NOW), ("Throughput and capacity", CAPACITY)]
    below: list[Section] = [
        ("Refused and lost", FLOW),
        ("Lag and latency", LAG),
        ("Where the time goes", STAGES),
        ("Kafka", KAFKA),
        ("Processes", PROCESSES),
        ("Listener and alerts", LISTENER),
    ]
    return fill(target, first_screen, below)


def _mean(metric: str, by: str = "") -> str:
    """The mean of a histogram's observations; absent while there are none."""
    return (
        f"sum by ({by}) (rate({metric}_sum{OF}[$__rate_interval])) "
        f"/ (sum by ({by}) (rate({metric}_count{OF}[$__rate_interval])) > 0)"
    )


NOW = [
    number(
        Words("Alerts firing", "Streamgauge's alerts that fire now, whatever their severity."),
        Query('count(ALERTS{alertname=~"Streamgauge.+", alertstate="firing"}) or vector(0)'),
        limit=Limit(1),
    ),
    number(
        Words(
            "Lag",
            "Records that wait in Kafka or in a worker; shown when it is known of all partitions.",
            empty=NO_ANSWER,
            runbook="StreamgaugeLagGrowing",
        ),
        Query("streamgauge:lag_records:sum", "{{group}}"),
        limit=Limit(1000),
    ),
    number(
        Words("Oldest record", "Age of the oldest record that a worker holds.", "s", NO_ANSWER, "StreamgaugeLagOld"),
        Query("streamgauge:lag_seconds:max", "{{group}}"),
        limit=Limit(60),
    ),
    number(
        Words("Workers up", "Replicas that answer.", runbook="StreamgaugeNoWorker"),
        Query('count(up{job="streamgauge-worker"} == 1) or vector(0)'),
        limit=Limit(1, is_floor=True),
    ),
    number(
        Words(
            "Unowned partitions",
            "Input partitions that no worker reads.",
            empty=NO_ANSWER,
            runbook="StreamgaugePartitionsUnowned",
        ),
        Query("streamgauge:unowned_partitions:sum", "{{group}}"),
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
        Query(f"streamgauge:dead_letters:ratio_rate5m and on () {WORKER}"),
        limit=Limit(0.05),
    ),
]

CAPACITY = [
    graph(
        Words(
            "Arrivals",
            "Records that arrive at the input topic a second, by the replica that reads their partitions, and in all. "
            "What arrives in a partition that nobody reads is not known.",
            PER_SECOND,
            NO_ANSWER,
            "StreamgaugeLagGrowing",
        ),
        Query(
            f"sum by (instance) (rate(streamgauge_input_end_offset{EACH}[$__rate_interval]))",
            "{{instance}}",
        ),
        Query(ARRIVALS, "all", dashed=True),
    ),
    graph(
        Words(
            "Throughput",
            "Records scored or refused, and committed, a second: by each replica and by all, beside what arrives. "
            "While less is done than arrives, records wait; while more is, a backlog is worked off.",
            PER_SECOND,
            NO_WORKER,
            "StreamgaugeNoWorkerReady",
        ),
        Query(
            f"sum by (instance) (rate(ml_model_requests_total{OF}[$__rate_interval])) "
            f"+ sum by (instance) (rate(streamgauge_dead_letters_total{OF}[$__rate_interval]))",
            "{{instance}}",
        ),
        Query(
            told_by(
                WORKER,
                "sum(rate(ml_model_requests_total[$__rate_interval])) "
                "+ sum(rate(streamgauge_dead_letters_total[$__rate_interval]))",
            ),
            "all",
            dashed=True,
        ),
        Query(ARRIVALS, "arriving", dashed=True),
    ),
    graph(
        Words(
            "Waiting",
            "Records that wait in Kafka or in a worker, by the replica that reads their partitions, and in all.",
            "short",
            NO_ANSWER,
            "StreamgaugeLagGrowing",
        ),
        Query(f"sum by (instance) (streamgauge_lag_records{EACH})", "{{instance}}"),
        Query("sum(streamgauge:lag_records:sum)", "all", dashed=True),
        limit=Limit(1000),
    ),
    graph(
        Words(
            "Model utilisation",
            "Share of the model slots' time that is spent on batches. Near 1, the model is the bottleneck: add "
            "replicas. It is time by the clock: where other programs take the CPU, batches take longer.",
            "percentunit",
            NO_WORKER,
            "StreamgaugeLatencyHigh",
        ),
        Query(
            f"clamp_max(rate(streamgauge_model_busy_seconds_total{OF}[$__rate_interval]) "
            f"/ streamgauge_model_slots{OF}, 1)",
            "{{instance}}",
        ),
        Query("streamgauge:model_utilisation:ratio_rate1m", "all", dashed=True),
        ratio=True,
    ),
    graph(
        Words(
            "Replicas needed",
            "How many replicas of a group would keep up with what arrived in five minutes, if their models were never "
            "idle and texts cost what these did. Leave room above it; what waits already is not in it. Beside it those "
            "that answer, and the partitions: more replicas than these have nothing to read.",
            "short",
            TOO_LITTLE,
            "StreamgaugeFewerWorkers",
        ),
        Query("streamgauge:replicas_needed:ceil", "{{group}} needed"),
        Query('count(up{job="streamgauge-worker"} == 1)', "up"),
        Query("max(streamgauge_input_partitions)", "partitions", dashed=True),
    ),
    graph(
        Words(
            "End-to-end latency",
            "From when the broker took a record to the commit of its outcome, all replicas. What takes more than 5 "
            "minutes is drawn at 5.",
            "s",
            NO_TEXTS,
            "StreamgaugeLatencyBudgetBurns",
        ),
        Query("streamgauge:end_to_end_latency_seconds:p50_rate5m", "median"),
        Query("streamgauge:end_to_end_latency_seconds:p95_rate5m", "95th percentile"),
        Query("streamgauge:end_to_end_latency_seconds:p99_rate5m", "99th percentile"),
        limit=SLOW,
        span=8,
    ),
]

FLOW = [
    graph(
        Words("Dead letters", "Records refused a second, by reason.", PER_SECOND, NO_WORKER, "StreamgaugeDeadLetters"),
        Query(f"sum by (reason) (rate(streamgauge_dead_letters_total{OF}[$__rate_interval])) > 0", "{{reason}}"),
        Query(told_by(WORKER, f"sum(rate(streamgauge_dead_letters_total{OF}[$__rate_interval]))"), "all", dashed=True),
        span=12,
    ),
    graph(
        Words(
            "Lost and truncated",
            "Records that the topic deleted before they were read, and texts longer than the model "
            "reads, in each minute.",
            "short",
            NO_WORKER,
            "StreamgaugeRecordsLost",
        ),
        Query(told_by(WORKER, f"sum(increase(streamgauge_records_lost_total{EACH}[1m]))"), "lost"),
        Query(told_by(WORKER, f"sum(increase(streamgauge_truncated_texts_total{OF}[1m]))"), "truncated"),
        span=12,
    ),
]

LAG = [
    graph(
        Words(
            "Lag in records",
            "Records not yet committed, by input partition, as brokers told last.",
            "short",
            NO_ANSWER,
            "StreamgaugeLagGrowing",
        ),
        Query(f"max by (partition) (streamgauge_lag_records{EACH})", "{{partition}}"),
        stacked=True,
    ),
    graph(
        Words(
            "Lag in seconds", "Age of the oldest record held, by input partition.", "s", NO_ANSWER, "StreamgaugeLagOld"
        ),
        Query(f"max by (partition) (streamgauge_lag_seconds{EACH})", "{{partition}}"),
        limit=Limit(60),
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
        Words(
            "Stages, 95th percentile",
            "What one in twenty exceeds. What takes more than 30 s is drawn at 30 s.",
            "s",
            NO_TEXTS,
            "StreamgaugeLatencyHigh",
        ),
        Query(
            "histogram_quantile(0.95, sum by (stage, le) (rate(streamgauge_stage_seconds_bucket"
            f"{OF}[$__rate_interval])))",
            "{{stage}}",
        ),
    ),
    graph(
        Words("Batches", "Mean number of texts in a batch, and mean of its tokens with padding.", "short", NO_TEXTS),
        Query(_mean("streamgauge_batch_texts"), "texts"),
        Query(_mean("streamgauge_batch_padded_tokens"), "tokens"),
    ),
    graph(
        Words("Padding", "Share of the computed tokens that is padding, all replicas.", "percentunit", NO_TEXTS),
        Query("streamgauge:padding:ratio_rate5m", "padding"),
        ratio=True,
    ),
    graph(
        Words("Tokens", "Tokens a second: of texts, and computed with padding.", PER_SECOND, NO_WORKER),
        Query(told_by(WORKER, f"sum(rate(streamgauge_tokens_total{OF}[$__rate_interval]))"), "tokens"),
        Query(
            told_by(WORKER, f"sum(rate(streamgauge_padded_tokens_total{OF}[$__rate_interval]))"),
            "with padding",
            dashed=True,
        ),
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
        Query(f"streamgauge_credit_bytes{OF} / streamgauge_credit_bytes_limit{OF}", "bytes {{instance}}", dashed=True),
        ratio=True,
    ),
    graph(
        Words("Queue depth", "Texts that are tokenised and wait for the model.", "short", NO_WORKER),
        Query(f"streamgauge_backlog_records{OF}", "{{instance}}"),
        span=12,
    ),
    graph(
        Words(
            "Failed batches",
            "Batches that the model failed on, in each minute; each is halved until the text that fails alone "
            "is found.",
            "short",
            NO_WORKER,
            "StreamgaugeDeadLetters",
        ),
        Query(told_by(WORKER, f"sum(increase(streamgauge_failed_batches_total{OF}[1m]))"), "failed"),
        span=12,
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
        span=6,
    ),
    graph(
        Words(
            "Rebalances",
            "Times that the group gave out partitions, and that a partition was opened anew after an error, in "
            "each minute.",
            "short",
            NO_WORKER,
            "StreamgaugeTransactionsFail",
        ),
        Query(told_by(WORKER, f"sum(increase(streamgauge_rebalances_total{OF}[1m]))"), "rebalances"),
        Query(told_by(WORKER, f"sum(increase(streamgauge_partition_reopens_total{OF}[1m]))"), "reopened partitions"),
        span=6,
    ),
    graph(
        Words(
            "Partitions owned",
            "Fenced and being read, by replica, and how many there are.",
            "short",
            NO_ANSWER,
            "StreamgaugePartitionsUnowned",
        ),
        Query(f"streamgauge_partitions_owned{OF}", "{{instance}}"),
        Query("max(streamgauge_input_partitions)", "partitions", dashed=True),
        span=6,
    ),
    graph(
        Words(
            "Workers ready",
            "1 where what comes can be committed; where not, `/readyz` of that replica says why.",
            "short",
            NO_WORKER,
            "StreamgaugeWorkerNotReady",
        ),
        Query(f"streamgauge_worker_ready{OF}", "{{instance}}"),
        limit=Limit(1, is_floor=True),
        span=6,
    ),
]

PROCESSES = [
    graph(
        Words(
            "Logins refused",
            "1 while Kafka does not let a replica in; its `/readyz` says why.",
            "short",
            NOBODY,
            "StreamgaugeKafkaRefused",
        ),
        Query('streamgauge_kafka_refused{job=~"streamgauge-.+"}', "{{job}} {{instance}}"),
        limit=Limit(1),
    ),
    graph(
        Words("Memory", "Resident, of each process.", "bytes", NOBODY),
        Query('process_resident_memory_bytes{job=~"streamgauge-.+"}', "{{job}} {{instance}}"),
    ),
    graph(
        Words("CPU", "Cores in use, of each process.", "short", NOBODY),
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
        limit=Limit(0.1),
    ),
    graph(
        Words("Replicas", "Processes that answer, by job.", "short", "no target is known", "StreamgaugeTargetDown"),
        Query('sum by (job) (up{job=~"streamgauge-.+"})', "{{job}}"),
    ),
    graph(
        Words("Restarts", "Of each process, in half an hour.", "short", NOBODY, "StreamgaugeRestarts"),
        Query('changes(process_start_time_seconds{job=~"streamgauge-.+"}[30m])', "{{job}} {{instance}}"),
        limit=Limit(3),
    ),
    rows(
        Words("Versions", "Of Streamgauge and of the model, by replica.", "short", NO_WORKER),
        Query("streamgauge_build_info * on (instance) group_left (model, digest) streamgauge_model_info"),
        [("filterFieldsByName", {"include": {"names": ["instance", "version", "model", "digest"]}})],
        span=24,
    ),
]

LISTENER = [
    graph(
        Words(
            "Listener",
            "Records that each listener still has to read.",
            "short",
            "no listener that brokers answer",
            "StreamgaugeListenerBehind",
        ),
        Query("sum by (instance) (streamgauge_listener_lag_records)", "{{instance}}"),
        limit=Limit(1000),
        span=6,
    ),
    graph(
        Words(
            "Listener store",
            "Size of each listener's file, which is a cache.",
            "bytes",
            NO_LISTENER,
            "StreamgaugeFewerListeners",
        ),
        Query("streamgauge_listener_store_bytes", "{{instance}}"),
        span=6,
    ),
    rows(
        Words("Alerts", "Pending and firing now; what to do stands in the runbooks.", "short", "none"),
        Query('ALERTS{alertname=~"Streamgauge.+"}'),
        [("filterFieldsByName", {"include": {"names": ["alertname", "alertstate", "severity", "instance", "model"]}})],
        span=12,
    ),
]
