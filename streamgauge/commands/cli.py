"""The command line: all commands, of which each imports its service only when it runs."""

import inspect
import os
import sys
from collections.abc import Sequence
from io import TextIOWrapper
from typing import Annotated

import typer

import streamgauge
from streamgauge.commands import local, models, operate, send, services, watch
from streamgauge.errors import ConfigurationError, StreamgaugeError
from streamgauge.terminal import harmless, is_text

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,  # locals hold users' texts
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Streaming sentiment inference on Kafka whose accuracy you can watch.",
)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"streamgauge {streamgauge.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version, and end.")
    ] = False,
) -> None:
    """What can be given before a command; the help text is the app's."""


def _unwrapped(commands: typer.Typer) -> typer.Typer:
    """Their docstrings as paragraphs: a terminal has other lines than the source."""
    for command in commands.registered_commands:
        paragraphs = (inspect.getdoc(command.callback) or "").split("\n\n")
        command.help = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
    for group in commands.registered_groups:
        if group.typer_instance:
            _unwrapped(group.typer_instance)
    return commands


for group in (services, send, watch, operate, models, local):
    app.add_typer(_unwrapped(group.app))


def main(argv: list[str] | None = None) -> None:
    """Run a command, and end the process; errors of ours become one line and an exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal need not have all characters
    code = exit_code(sys.argv[1:] if argv is None else argv)
    sys.stdout.flush()
    sys.stderr.flush()
    # Not sys.exit: it waits for threads, and one that hangs in the model must not keep a process alive.
    os._exit(code)


def exit_code(argv: Sequence[str]) -> int:
    """Run a command to its end; returns the process's exit code. An error that is not ours is raised."""
    try:
        _refuse_what_is_no_text(argv)
        app(argv)
    except StreamgaugeError as error:
        if error.exit_code:
            lines = "\n".join(harmless(line) for line in str(error).splitlines())
            print(f"error: {lines}", file=sys.stderr)  # noqa: T201 - the last word to the person at the terminal
        return error.exit_code
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 0
    return 0


def _refuse_what_is_no_text(arguments: Sequence[str]) -> None:
    """Bytes that are not UTF-8 come in as lone surrogates, which nothing can encode. Raises ConfigurationError."""
    for number, argument in enumerate(arguments, start=1):
        if not is_text(argument):
            raise ConfigurationError(f"argument {number} is not UTF-8")
