"""dfal strategies | data: what there is."""

from pathlib import Path

import click
from rich.table import Table

from dfal.cli import output
from dfal.data import datasets
from dfal.errors import DfalError
from dfal.reporting import contact_sheet, terminal
from dfal.strategies import STRATEGIES


@click.command()
def strategies() -> None:
    """List the strategies."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name in STRATEGIES:
        table.add_row(f"[bold]{name}[/bold]", STRATEGIES.about(name))
    output.console.print(table, highlight=False)
    output.console.print(
        "Your own is package.module:name: a function (model, pool, k, rng) -> Query, or a class of"
        " such objects."
    )
    output.console.print(
        "Any of them with +twins behind its name also learns the adversarial twins of what it asks"
        " about."
    )


@click.command()
@click.argument("name", required=False)
@click.option(
    "--fetch",
    is_flag=True,
    help="Download it now, rather than when it is first used, and verify it.",
)
@click.option(
    "--picture",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write a PNG with samples of each class to this file.",
)
def data(name: str | None, fetch: bool, picture: Path | None) -> None:
    """List the data sets, or show one: a name, a FILE.npz or a FOLDER of images."""
    if name is None:
        if fetch or picture:
            raise DfalError(
                f"{'--fetch' if fetch else '--picture'} needs the name of a data set: dfal data"
                " mnist …"
            )
        for card in datasets.DATASETS.values():
            output.console.print(terminal.card_table(card), soft_wrap=False)
        output.console.print(
            "Any other: a FILE.npz with images (N, height, width[, channels]) as uint8, and labels"
            " (N);"
        )
        output.console.print(
            "or a FOLDER of images in sub-folders, one for each class. dfal data NAME says more of"
            " one."
        )
        return
    known = datasets.DATASETS.get(name)
    loaded = datasets.load(name) if fetch or picture or known is None else None
    output.console.print(
        terminal.card_table(known, whole=True)
        if known
        else terminal.dataset_table(name, datasets.load(name))
    )
    if picture and loaded:
        contact_sheet.write(loaded, name, picture)
        output.console.print(f"[bold]Picture[/bold] {picture}", soft_wrap=True)
