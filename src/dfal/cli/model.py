"""dfal model: the card of a saved model."""

import dataclasses
from pathlib import Path

import click

from dfal.cli import output
from dfal.cli.commands import Command, option
from dfal.cli.options import PATH, STDOUT, json_option, network_option, quiet_option


@click.command(
    cls=Command,
    examples=[
        ("what a model was trained on, and how accurate it is", "model photos.safetensors"),
        ("write it as ONNX", "model photos.safetensors --onnx photos.onnx"),
    ],
)
@click.argument("model", type=PATH)
@option("--onnx", type=PATH, group="Output", help="Also write the model as ONNX to this file.")
@json_option("the card")
@quiet_option
@network_option
def model(model: Path, onnx: Path | None, as_json: bool, quiet: bool, network: str | None) -> None:
    """Show the card of a saved MODEL: classes, images, annotations, accuracy and licence."""
    from dfal import models

    saved = models.load(model, network)
    if onnx:
        with output.output_file(onnx) as path:
            models.save_onnx(saved.network, saved.card, path)
    if as_json:
        output.print_json({"path": model, **dataclasses.asdict(saved.card)})
    elif not quiet and onnx != STDOUT:
        output.print_rows(list(saved.card.lines().items()))
        if onnx:
            output.print_lines(f"{output.heading('ONNX')} {onnx}")
