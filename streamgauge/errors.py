"""Errors that end a command, with the exit code that they end it with."""


class StreamgaugeError(Exception):
    """Something failed at run time; the message says what, and what to do. Exit code 1."""

    exit_code = 1


class ConfigurationError(StreamgaugeError):
    """A setting, an argument or the state of the cluster forbids to start. Exit code 2."""

    exit_code = 2


class Stopped(StreamgaugeError):  # noqa: N818 - it is no error
    """The service was asked to stop before it had begun. Exit code 0."""

    exit_code = 0
