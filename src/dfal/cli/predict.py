"""dfal predict | model: a saved model at work on a folder of images, and its card."""

import contextlib
import io
import os
import sys
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from dfal import models
from dfal.atomic import atomic_write
from dfal.data.listing import Listing
from dfal.errors import DfalError
from dfal.spreadsheet import defused, formulas, row_writer

_NAMES: dict[str, Any] = {"encoding": "utf-8", "errors": "surrogateescape"}
"""File names need not be UTF-8: they are written as they are."""


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--out", type=click.Path(path_type=Path), help="The CSV to write.  [default: the terminal]"
)
@click.option(
    "--distance",
    is_flag=True,
    help="Also measure how far each image lies from the decision boundary.",
)
@click.option(
    "--model",
    "network",
    metavar="NAME",
    help="The package.module:function that may be run, if it made the network.",
)
def predict(
    model: Path, folder: Path, out: Path | None, distance: bool, network: str | None
) -> None:
    """Label the images of a FOLDER with a saved MODEL.

    The CSV has the columns path, label and confidence (the probability that the model gives its
    label), and with --distance the length of the smallest change that was found to change the
    label, with pixels from 0 to 1. What the model's card says of its accuracy, and files that
    cannot be read, are named at the end.
    """
    saved = models.load(model, network)
    listing = Listing.of(folder)
    aside = [f"{path}: {reason}" for path, reason in listing.unreadable.items()]
    try:
        with contextlib.ExitStack() as stack:
            part = (
                stack.enter_context(atomic_write(out, "name another with --out")) if out else None
            )
            file = stack.enter_context(part.open("w", newline="", **_NAMES)) if part else sys.stdout
            if isinstance(file, io.TextIOWrapper):
                file.reconfigure(**_NAMES)
            write = row_writer(file)
            write(["path", "label", "confidence", *(["distance"] if distance else [])])
            hidden = out is None or not sys.stderr.isatty()
            bar = stack.enter_context(
                Progress(console=Console(stderr=True), transient=True, disable=hidden)
            )
            found = models.label(
                saved, [folder / entry.path for entry in listing.entries], distance
            )
            for entry, one in zip(
                listing.entries, bar.track(found, len(listing.entries)), strict=True
            ):
                if isinstance(one, models.Prediction):
                    far = [] if one.distance is None else [f"{one.distance:.4g}"]
                    write([entry.path, defused(one.label), f"{one.confidence:.4f}", *far])
                else:
                    aside.append(f"{entry.path}: {one[1]}")
            file.flush()
    except BrokenPipeError:  # `| head`
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115  or the interpreter would complain when it ends
        return
    except OSError as error:
        raise DfalError(
            f"the output cannot be written ({error.strerror}): write it to a file with --out"
        ) from None
    click.echo(f"dfal: {model.name}: {saved.card.caution()}", err=True)
    if warning := formulas(entry.path for entry in listing.entries):
        click.echo(f"dfal: {warning}", err=True)
    for line in aside:
        click.echo(f"dfal: left out {line}", err=True)


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--onnx", type=click.Path(path_type=Path), help="Write it as ONNX too, to this file.")
@click.option(
    "--model",
    "network",
    metavar="NAME",
    help="The package.module:function that may be run, if it made the network.",
)
def model(model: Path, onnx: Path | None, network: str | None) -> None:
    """Show the card of a saved MODEL."""
    saved = models.load(model, network)
    table = Table.grid(padding=(0, 2, 0, 0))
    for heading, text in saved.card.lines().items():
        table.add_row(f"[bold]{heading}[/bold]", escape(text))
    console = Console()
    console.print(table)
    if onnx:
        models.save_onnx(saved.network, saved.card, onnx)
        console.print(f"[bold]ONNX[/bold] {onnx}", soft_wrap=True)
