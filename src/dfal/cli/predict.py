"""dfal predict: label a folder of images with a saved model."""

import contextlib
import io
import os
import sys
from pathlib import Path
from typing import Any

import click

from dfal.cli import output
from dfal.cli.commands import Command, option
from dfal.cli.options import PATH, STDOUT, json_option, network_option, quiet_option
from dfal.errors import DfalError

_FILE_NAMES: dict[str, Any] = {"encoding": "utf-8", "errors": "surrogateescape"}
"""File names need not be UTF-8: they are written as they are."""


@click.command(
    cls=Command,
    examples=[
        ("label the images of a folder", "predict photos.safetensors new-photos --out labels.csv"),
        ("with the distance to the decision boundary", "predict m.safetensors photos --distance"),
    ],
)
@click.argument("model", type=PATH)
@click.argument("folder", type=PATH)
@option(
    "--out",
    type=PATH,
    default=STDOUT,
    group="Output",
    help="The CSV file to write; - is standard output.  [default: -]",
)
@json_option("predictions, and what the model's card says of its accuracy,")
@quiet_option
@option(
    "--distance",
    is_flag=True,
    group="Model",
    help="Also measure the distance of each image to the decision boundary.",
)
@network_option
def predict(  # noqa: PLR0917
    model: Path,
    folder: Path,
    out: Path,
    as_json: bool,
    quiet: bool,
    distance: bool,
    network: str | None,
) -> None:
    """Label the images in FOLDER with a saved MODEL.

    The CSV has the columns path, label and confidence (the probability that the model gives its
    label). With --distance it also has the length of the smallest change that was found to change
    the label (L2, pixels from 0 to 1). The accuracy on the model's card, and files that
    cannot be read, are named on standard error.
    """
    from dfal import models
    from dfal.atomic import atomic_write
    from dfal.data.listing import Listing
    from dfal.spreadsheet import defused, formulas, row_writer

    saved = models.load(model, network)
    listing = Listing.of(folder)
    left_out = [
        {"path": str(path), "reason": reason} for path, reason in listing.unreadable.items()
    ]
    rows: list[dict[str, Any]] = []
    try:
        with contextlib.ExitStack() as stack:
            part = (
                None
                if out == STDOUT
                else stack.enter_context(atomic_write(out, "name another with --out"))
            )
            file = (
                stack.enter_context(part.open("w", newline="", **_FILE_NAMES))
                if part
                else sys.stdout
            )
            if isinstance(file, io.TextIOWrapper):
                file.reconfigure(**_FILE_NAMES)
            write = row_writer(io.StringIO() if as_json and part is None else file)
            write(["path", "label", "confidence", *(["distance"] if distance else [])])
            predictions = models.label(
                saved, [folder / entry.path for entry in listing.entries], distance
            )
            bar = stack.enter_context(
                click.progressbar(
                    predictions,
                    length=len(listing.entries),
                    file=sys.stderr,
                    hidden=quiet or part is None or not sys.stderr.isatty(),
                )
            )
            for entry, prediction in zip(listing.entries, bar, strict=True):
                if not isinstance(prediction, models.Prediction):
                    left_out.append({"path": str(entry.path), "reason": prediction[1]})
                    continue
                label, confidence, far = (
                    prediction.label,
                    prediction.confidence,
                    prediction.distance,
                )
                distances = [] if far is None else [f"{far:.4g}"]
                write([entry.path, defused(label), f"{confidence:.4f}", *distances])
                if as_json:
                    row = {"path": str(entry.path), "label": label, "confidence": confidence}
                    rows.append(row | ({} if far is None else {"distance": far}))
            file.flush()
    except BrokenPipeError:  # `| head`
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115  or the interpreter would complain when it ends
        return
    except OSError as error:
        raise DfalError(
            f"the output cannot be written ({error.strerror}): write it to a file with --out"
        ) from None
    if as_json:
        card = saved.card
        output.print_json(
            {
                "model": model,
                "accuracy": card.accuracy,
                "accuracy_interval": card.interval,
                "held_out": card.held_out,
                "calibrated": card.temperature is not None,
                "predictions": rows,
                "left_out": left_out,
            }
        )
        return
    if quiet:
        return
    click.echo(f"dfal: {model.name}: {saved.card.caution()}", err=True)
    if warning := formulas(entry.path for entry in listing.entries):
        click.echo(f"dfal: {warning}", err=True)
    for file_left_out in left_out:
        click.echo(f"dfal: left out {file_left_out['path']}: {file_left_out['reason']}", err=True)
