"""dfal strategies: the query strategies by name."""

import click

from dfal.cli import output
from dfal.cli.commands import Command
from dfal.cli.options import json_option, quiet_option


@click.command(
    cls=Command,
    examples=[
        ("list the strategies, and what each selects", "strategies"),
        ("the names alone, one a line", "strategies --quiet"),
    ],
)
@json_option("the names and descriptions")
@quiet_option
def strategies(as_json: bool, quiet: bool) -> None:
    """List the query strategies.

    Your own is package.module:name: a function (model, pool, k, rng) -> Query, or a class of such
    objects. Any strategy with +twins behind its name also trains on the adversarial twins of the
    images that it queries.
    """
    from dfal.strategies import STRATEGIES

    if as_json:
        output.print_json([{"name": name, "about": STRATEGIES.about(name)} for name in STRATEGIES])
    elif quiet:
        output.print_lines(*STRATEGIES)
    else:
        output.print_rows([(name, STRATEGIES.about(name)) for name in STRATEGIES])
        output.print_notes(
            "Your own is package.module:name; +twins behind any name adds adversarial twins."
        )
