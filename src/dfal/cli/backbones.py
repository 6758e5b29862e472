"""dfal backbones: the pretrained networks by name."""

import click

from dfal.cli import output
from dfal.cli.commands import Command
from dfal.cli.options import json_option, quiet_option


@click.command(
    cls=Command,
    examples=[
        ("list the backbones, and where they come from", "backbones"),
        ("the names alone, one a line", "backbones --quiet"),
    ],
)
@json_option("the names and descriptions")
@quiet_option
def backbones(as_json: bool, quiet: bool) -> None:
    """List the backbones: pretrained networks that turn images into features.

    Your own is package.module:function: a function (image) -> dfal.backbones.Backbone.
    """
    from dfal.backbones import BACKBONES

    if as_json:
        output.print_json([{"name": name, "about": BACKBONES.about(name)} for name in BACKBONES])
    elif quiet:
        output.print_lines(*BACKBONES)
    else:
        output.print_rows([(name, BACKBONES.about(name)) for name in BACKBONES])
        output.print_notes("Your own is package.module:function.")
