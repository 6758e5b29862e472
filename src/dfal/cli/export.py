"""dfal export: the labels of a store, or its model."""

import shlex
from pathlib import Path

import click

from dfal.cli import output
from dfal.cli.commands import Command, option
from dfal.cli.options import PATH, STDOUT, json_option, quiet_option
from dfal.errors import DfalError
from dfal.labelling.export import FORMATS


@click.command(
    cls=Command,
    examples=[
        ("the labels as CSV", "export photos.labels.db"),
        (
            "a folder for each class, with the model's labels where nobody gave one",
            "export photos.labels.db --format folders --guess",
        ),
    ],
)
@click.argument("store", type=PATH)
@option(
    "--format",
    "--as",
    "format_name",
    type=click.Choice(list(FORMATS)),
    default="csv",
    show_default=True,
    group="Labels",
    help="; ".join(f"{name}: {FORMATS.about(name)}" for name in FORMATS) + ".",
)
@option(
    "--guess",
    is_flag=True,
    group="Labels",
    help="Also export pseudo-labels: the latest model's labels of images that nobody labelled.",
)
@option(
    "--model",
    "network",
    metavar="NAME",
    group="Labels",
    help="The package.module:function that built the network, if its code may be run.",
)
@option(
    "--out",
    type=PATH,
    group="Output",
    help=(
        "The file or folder to write; - is standard output, for a format that is one file."
        "  [default: next to the STORE]"
    ),
)
@json_option("the counts of labels and the path")
@quiet_option
def export(  # noqa: PLR0917
    store: Path,
    format_name: str,
    guess: bool,
    network: str | None,
    out: Path | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Export the labels of a STORE, or its model.

    The page of the store may be open meanwhile. The latest model is saved next to the store as
    safetensors already.
    """
    from dfal.cli.label_export import latest_model_path, write_export
    from dfal.storage.paths import beside

    if store.is_dir():
        raise DfalError(
            f"{store} is a folder: name a store that `dfal label` made, such as"
            f" {store.resolve().name}.labels.db"
        )
    path = out or beside(store, FORMATS[format_name].ending)
    if out == STDOUT and as_json:
        raise DfalError("--out and --json cannot both be standard output: name a file with --out")
    if out == STDOUT and "." not in FORMATS[format_name].ending:
        raise DfalError(f"--format {format_name} writes a folder: name it with --out")
    with output.output_file(path) as file:
        exported = write_export(store, format_name, file, guess, network)
    model = latest_model_path(store)
    if as_json:
        counts = {"labels": exported.labels, "missing": exported.missing} if exported else {}
        output.print_json({"path": path, "format": format_name, **counts, "model": model})
    if as_json or quiet or out == STDOUT:
        return
    if exported is None:
        output.print_lines(f"the model: {path}")
        return
    counted = ", ".join(f"{count:,} {how}" for how, count in exported.labels.items())
    output.print_lines(f"{counted}: {path}", *exported.notes)
    if model:
        output.print_lines(
            f"the model is in {model}: dfal predict {shlex.quote(str(model))} FOLDER"
        )
