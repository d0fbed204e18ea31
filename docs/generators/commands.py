"""The page of all commands, from what `--help` shows."""

from collections.abc import Iterator
from typing import Any

import typer

from docs.generators.table import table
from streamgauge.commands.cli import app

INTRO = """# Commands

Generated from the code by `python -m docs.build`: it is what `streamgauge COMMAND --help` shows. Many options have a
[setting](settings.md), which counts where the option is not given. Exit codes: 0 done, 1 failed at run time, 2 wrong
usage or configuration, 130 or 143 a command was ended by Ctrl-C or SIGTERM.
"""


def page() -> str:
    """A section a command, in the order of `streamgauge --help`."""
    return INTRO + "".join(_section(path, command) for path, command in _commands(typer.main.get_command(app)))


def _commands(group: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Typer's commands have no public types."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands(command, f"{path}{name} ")
        else:
            yield path + name, command


def _section(path: str, command: Any) -> str:
    context = command.context_class(command, info_name=path)
    usage = " ".join(["streamgauge", path, *command.collect_usage_pieces(context)])
    words = "\n\n".join(" ".join(part.split()) for part in (command.help or "").split("\n\n"))
    heading, *examples = command.epilog.splitlines()
    shown = [parameter.get_help_record(context) for parameter in command.params]
    rows = [(f"`{names}`", words) for names, words in filter(None, shown)]
    return "\n".join(
        [
            f"\n## {path}\n",
            f"`{usage}`\n",
            f"{words}\n",
            table(("option or argument", "meaning"), rows),
            f"{heading}\n",
            *(f"    {example.strip()}" for example in examples),
            "",
        ]
    )
