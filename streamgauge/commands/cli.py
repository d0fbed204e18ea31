"""The command line: all commands, of which each imports its service only when it runs."""

import os
import sys
from typing import Annotated

import typer

import streamgauge
from streamgauge.commands import local, models, operate, send, services, watch
from streamgauge.errors import StreamgaugeError

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


for group in (services, send, watch, operate, models, local):
    app.add_typer(group.app)


def main(argv: list[str] | None = None) -> None:
    """Run a command, and end the process; errors of ours become one line and an exit code."""
    code: int | str | None = 0
    try:
        app(argv)
    except StreamgaugeError as error:
        code = error.exit_code
        if code:
            print(f"error: {error}", file=sys.stderr)  # noqa: T201 - the last word to the person at the terminal
    except SystemExit as ended:
        code = ended.code
    sys.stdout.flush()
    sys.stderr.flush()
    # Not sys.exit: it waits for threads, and one that hangs in the model must not keep a process alive.
    os._exit(code if isinstance(code, int) else 0)
