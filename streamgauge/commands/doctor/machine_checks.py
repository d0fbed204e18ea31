"""Whether the settings contradict each other, and what worker and listener would find on this machine."""

from collections.abc import Iterator

from streamgauge.commands.doctor.checks import Found, check
from streamgauge.commands.doctor.picture import Picture, seen
from worker.settings import most_memory_bytes
from worker.transaction import BROKER_MARGIN_S

STORED_PREDICTION_BYTES = 307
"""Of a prediction in the listener's file, every fifth with a label: infra/sizing.md."""
OTHER_FILES = 200
"""What a worker has open besides its producers: the HTTP side, consumers, the model, libraries."""
SOCKETS_OF_A_PRODUCER = 2
"""For each broker."""
NETWORK = ("nfs", "cifs", "smb", "9p", "ceph", "glusterfs", "lustre", "fuse.sshfs", "fuse.gluster", "fuse.s3")
"""How the types of filesystems begin whose locks SQLite cannot rely on."""
MB = 1_000_000


@check(
    "timeouts",
    why="The shorter one cuts off what the longer one waits for: restarts without end, or alarms that never come.",
    source="https://github.com/PostHog/millpond/pull/129",
)
def timeouts(picture: Picture) -> Iterator[Found]:
    """Settings of time contradict each other."""
    worker, listener, topics = picture.setup.worker, picture.setup.listener, picture.setup.topics
    stall_s, transaction_s = worker.stall_timeout_s, worker.transaction_timeout_s + BROKER_MARGIN_S
    for what, limit_s in (
        (f"an attempt to commit may take {transaction_s:g} s", transaction_s),
        (f"a partition is committed every {worker.commit_interval_s:g} s", worker.commit_interval_s),
    ):
        if stall_s <= limit_s:
            yield Found(
                f"{what}, but after {stall_s:g} s without a commit a worker is not alive",
                f"export STREAMGAUGE_WORKER_STALL_TIMEOUT_S={4 * limit_s:g}",
            )
    window_hours = topics.join_window_days * 24
    if listener.audit_horizon_hours >= window_hours:
        yield Found(
            f"a minute of the audit matures after {listener.audit_horizon_hours:g} hours, and leaves the window after "
            f"{window_hours:g}: nothing ever sets off an alarm",
            f"export STREAMGAUGE_LISTENER_AUDIT_HORIZON_HOURS={window_hours / 24:g}",
        )


@check(
    "model-directory",
    why="A worker does not start without a whole model that says what it is known to say.",
    source="https://github.com/knights-analytics/hugot/issues/87",
)
def model_directory(picture: Picture) -> Iterator[Found]:
    """The model directory lacks a file, or its files do not belong together."""
    if picture.machine.model_problem:
        yield Found(
            picture.machine.model_problem,
            f"streamgauge inspect {picture.setup.worker.model_dir}; or anew: streamgauge export MODEL --output DIR",
        )


@check(
    "model-slots",
    why="Batches beyond the cores wait for each other, and a quota stops all of them at once, the heartbeat too.",
    source="https://github.com/NeptuneHub/AudioMuse-AI/issues/787",
)
def model_slots(picture: Picture) -> Iterator[Found]:
    """There are more model slots than cores that may be used."""
    slots, cores = picture.setup.worker.model_slots, picture.machine.cores
    if slots > cores:
        yield Found(
            f"{slots} batches are inferred at once, but this machine or container gives {cores:g} cores",
            f"export STREAMGAUGE_WORKER_MODEL_SLOTS={int(cores)}"
            if cores >= 1
            else "give the container a whole core: docker run --cpus 1, or resources.limits.cpu: 1",
        )


@check(
    "memory",
    why="The kernel kills a worker that takes more, just when outputs stall and records are large.",
    source="https://github.com/dpkp/kafka-python/issues/2437",
)
def memory(picture: Picture) -> Iterator[Found]:
    """A worker may need more memory than there is."""
    source, worker = picture.topic(picture.setup.topics.input), picture.setup.worker
    most_bytes = most_memory_bytes(worker, source.partitions, int(source.config["max.message.bytes"]))
    given_bytes = seen(picture.machine.memory_bytes)
    if most_bytes > given_bytes:
        yield Found(
            f"with {source.partitions} partitions and {worker.model_slots} model slots a worker may take "
            f"{most_bytes // MB} MB, but this machine or container gives {given_bytes // MB} MB",
            f"give it {-(-most_bytes // MB)} MB; or lower STREAMGAUGE_WORKER_MAX_BYTES, now {worker.max_bytes}",
        )


@check(
    "open-files",
    why="Each partition has a producer of its own. A worker that may open no more files cannot open a partition.",
    source="https://github.com/dCache/dcache/issues/4199",
)
def open_files(picture: Picture) -> Iterator[Found]:
    """A worker may need more open files than the limit allows."""
    partitions, brokers = picture.topic(picture.setup.topics.input).partitions, seen(picture.cluster.brokers)
    needed, limit = SOCKETS_OF_A_PRODUCER * brokers * partitions + OTHER_FILES, seen(picture.machine.open_files)
    if needed > limit:
        yield Found(
            f"with {partitions} partitions on {brokers} brokers a worker may open {needed} files; the limit is {limit}",
            f"ulimit -n {needed}, before the worker starts; or LimitNOFILE= of its unit",
        )


@check(
    "store-place",
    why="The listener keeps its numbers there, in SQLite: it ends when it cannot write, and relies on locks.",
    source="https://github.com/Sonarr/Sonarr/issues/2797",
)
def store_place(picture: Picture) -> Iterator[Found]:
    """The listener's store is in a folder that is read-only, on a network, or too small."""
    store = seen(picture.machine.store)
    elsewhere = "export STREAMGAUGE_LISTENER_STORE=FILE, on a disk of this machine with room"
    if not store.is_writable:
        yield Found(f"{store.path} is to be in {store.exists_in}, which this user may not write", elsewhere)
    if store.filesystem.startswith(NETWORK):
        yield Found(f"{store.path} is on a network's filesystem, {store.filesystem}", elsewhere)
    results = picture.setup.topics.results
    retained = sum(span.end - span.first for tp, span in seen(picture.cluster.spans).items() if tp.topic == results)
    needed_bytes = retained // picture.setup.listener.shard.of * STORED_PREDICTION_BYTES
    if needed_bytes > store.free_bytes + store.size_bytes:
        yield Found(
            f"the {retained} results that are retained need {needed_bytes // MB} MB in {store.path}, where "
            f"{(store.free_bytes + store.size_bytes) // MB} MB are free or its own",
            elsewhere,
        )


@check(
    "ports",
    why="The service cannot start there, or Prometheus scrapes something else under its name.",
    source="https://github.com/prometheus/client_python/issues/667",
)
def ports(picture: Picture) -> Iterator[Found]:
    """Somebody else has a service's port, or both services have one."""
    worker, listener = picture.setup.worker.http_port, picture.setup.listener.http_port
    if worker == listener != 0:
        yield Found(
            f"worker and listener are both to listen on port {worker}",
            f"export STREAMGAUGE_LISTENER_HTTP_PORT={worker + 1}",
        )
        return
    for answer in picture.answers:
        if answer.samples is None:
            yield Found(
                f"who answers at {answer.url} is no {answer.service} of ours",
                f"stop what listens there, or: export STREAMGAUGE_{answer.service.upper()}_HTTP_PORT=ANOTHER",
            )


CHECKS = (timeouts, model_directory, model_slots, memory, open_files, store_place, ports)
