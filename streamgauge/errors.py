"""Every error that ends a command, as one tree, with the exit code that it ends it with.

    StreamgaugeError                1   something failed at run time
    ├── BrokerError                 1   the embedded Apache Kafka cannot be had
    ├── ConfigurationError          2   a setting, an argument or the cluster forbids to start
    │   ├── AccessDenied            2   a broker refuses the login, or a right is missing
    │   └── TopicsUnfit             2   topics are missing, or break a guarantee
    └── Stopped                     0   asked to stop before it had begun

What is raised elsewhere is caught in its own package and becomes one of these, or part of the stream's result:
worker.model's InferenceError (a dead letter, or the end), model making's QuantizeError, the listener's StoreUnusable
(its cache is filled again).
"""


class StreamgaugeError(Exception):
    """Something failed at run time; the message says what, and what to do."""

    exit_code = 1


class BrokerError(StreamgaugeError):
    """The embedded broker cannot be had; the message says what failed and what to do about it."""


class ConfigurationError(StreamgaugeError):
    """A setting, an argument or the state of the cluster forbids to start."""

    exit_code = 2


class TopicsUnfit(ConfigurationError):  # noqa: N818 - "unfit" says it
    """Topics are missing, or are not as a guarantee needs them; the message ends with the command that helps."""

    def __init__(self, *problems: str) -> None:
        super().__init__("; ".join(problems) + f"\n{MAKE_TOPICS_RIGHT}")


class AccessDenied(ConfigurationError):  # noqa: N818 - "denied" says it
    """A broker does not let us in, or does not allow what we must do; the message says which, and where to look."""


MAKE_TOPICS_RIGHT = "run: streamgauge topics create"


class Stopped(StreamgaugeError):  # noqa: N818 - it is no error
    """The service was asked to stop before it had begun."""

    exit_code = 0
