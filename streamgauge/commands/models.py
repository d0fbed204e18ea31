"""Model directories: `export` makes one, `inspect` says what one is."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from streamgauge.commands.running import Json, LabelMap
from streamgauge.errors import StreamgaugeError

app = typer.Typer()


@app.command(
    epilog="Examples:\n  streamgauge export distilbert/distilbert-base-uncased-finetuned-sst-2-english --output sst2"
    "\n  streamgauge export ./checkpoint --output model --quantize none --optimize O2"
)
def export(  # noqa: PLR0913, PLR0917 - options of a command
    source: Annotated[str, typer.Argument(metavar="MODEL_ID_OR_DIR", help="A hub's id, or a checkpoint's directory.")],
    output: Annotated[Path, typer.Option(help="The model directory to write; it must not exist.")],
    quantize: Annotated[str, typer.Option(help="int8-rows, or none (fp32).")] = "int8-rows",
    opset: Annotated[int | None, typer.Option(min=17, help="Of the fp32 graph; default: optimum's.")] = None,
    optimize: Annotated[str | None, typer.Option(help="optimum's O1, O2 or O3, with --quantize none.")] = None,
    name: Annotated[str | None, typer.Option(help="Default: the last part of the source.")] = None,
    version: Annotated[str | None, typer.Option(help="Default: the head of the digest.")] = None,
    licence: Annotated[str | None, typer.Option("--license", help="SPDX id; default: as the source says.")] = None,
    data: Annotated[
        Path | None, typer.Option(help="A file of texts and labels: measures the model, writes a reference profile.")
    ] = None,
    label_map: LabelMap = None,
    max_difference: Annotated[
        float | None, typer.Option(min=0, help="Allowed to a probability of PyTorch's; default: 0.001, int8-rows 0.15.")
    ] = None,
) -> None:
    """Make a model directory of any DistilBERT sequence classifier. Needs the extra `export`, with PyTorch."""
    import signal

    from producer.corpus import texts_and_labels
    from streamgauge.labels import read_map
    from worker.model_making.export import Options
    from worker.model_making.export import export as export_model
    from worker.model_making.labelled_texts import LabelledTexts

    for number in (signal.SIGINT, signal.SIGTERM):  # unwinds, so that nothing half-written stays
        signal.signal(number, lambda caught, _frame: sys.exit(128 + caught))
    judged = LabelledTexts(f"--data {data}", *texts_and_labels(data), read_map(label_map)) if data else None
    options = Options(quantize, opset, optimize, name, version, licence, max_difference, judged)
    export_model(source, output, options, typer.echo)


@app.command(epilog="Examples:\n  streamgauge inspect\n  streamgauge inspect ./model --json")
def inspect(
    directory: Annotated[Path | None, typer.Argument(help="Default: the model that comes along.")] = None,
    as_json: Json = False,
) -> None:
    """Say what a model is, check that it is still what was exported, and time it. Exit code 1 if it is not."""
    import msgspec

    from streamgauge.settings import load
    from worker.model_making.inspection import inspect as inspect_model
    from worker.model_making.inspection import lines
    from worker.settings import WorkerSettings

    report = inspect_model(directory or load(WorkerSettings).model_dir)
    typer.echo(msgspec.json.encode(report).decode() if as_json else "\n".join(lines(report)))
    if not report.sound:
        raise StreamgaugeError("the files are not what was exported, or this CPU computes them wrongly")
