"""dfal data: the data sets."""

from pathlib import Path
from typing import Any

import click

from dfal.cli import completion, output
from dfal.cli.commands import Command, option
from dfal.cli.options import json_option, quiet_option
from dfal.data.sources.registry import SOURCES
from dfal.errors import DfalError


@click.command(
    cls=Command,
    examples=[
        ("list the data sets", "data"),
        ("draw samples of each class of a folder of images", "data photos --picture samples.png"),
    ],
)
@click.argument("name", required=False, shell_complete=completion.datasets)
@option(
    "--fetch",
    is_flag=True,
    group="Files",
    help="Download it now, not when it is first used, and verify it.",
)
@option(
    "--picture",
    type=click.Path(path_type=Path, dir_okay=False),
    group="Files",
    help="Write a PNG with samples of each class to this file.",
)
@json_option("what is known of the data sets")
@quiet_option
def data(name: str | None, fetch: bool, picture: Path | None, as_json: bool, quiet: bool) -> None:
    """List the data sets, or show one.

    NAME is one of the list, a FILE.npz with images (N, height, width[, channels]) as uint8 and
    labels (N), or images of your own in any form that `dfal run --dataset` takes.
    """
    from dfal.data import datasets
    from dfal.reporting import contact_sheet, terminal

    if name is None:
        if fetch or picture:
            raise DfalError(
                f"{'--fetch' if fetch else '--picture'} needs the name of a data set: dfal data"
                " mnist …"
            )
        if as_json:
            output.print_json([_card(card) for card in datasets.DATASETS.values()])
        elif quiet:
            output.print_lines(*datasets.DATASETS)
        else:
            for card in datasets.DATASETS.values():
                output.print_table(terminal.card_table(card))
            output.print_notes(
                f"Your own: FILE.npz, {SOURCES.forms}, or an address such as s3://bucket/photos."
                " dfal data NAME shows one."
            )
        return
    known = name in datasets.DATASETS
    loaded = datasets.load(name) if fetch or picture or not known else None
    if picture and loaded:
        contact_sheet.write(loaded, name, picture)
    if as_json:
        output.print_json(_card(datasets.DATASETS[name]) if known else _dataset(name))
    elif not quiet:
        output.print_table(
            terminal.card_table(datasets.DATASETS[name], whole=True)
            if known
            else terminal.dataset_table(name, datasets.load(name))
        )
        if picture:
            output.print_lines(f"{output.heading('Picture')} {picture}")


def _card(card: Any) -> dict[str, Any]:
    """Return what is known of a data set that dfal names, for JSON."""
    from dfal.data.datasets import DATASETS

    return {
        "name": card.name,
        "about": DATASETS.about(card.name),
        "origin": card.origin,
        "licence": card.licence,
        "pool": card.pool,
        "test": card.test,
        "image": card.image,
        "classes": card.classes,
        "split": card.split,
        "download": card.download,
        "path": card.where(),
    }


def _dataset(name: str) -> dict[str, Any]:
    """Return what is known of a data set of a file or folder, for JSON."""
    from dfal.data import datasets

    data = datasets.load(name)
    return {
        "name": name,
        "pool": len(data.images),
        "test": len(data.test_images),
        "image": data.images.shape,
        "classes": data.classes,
        "path": name,
    }
