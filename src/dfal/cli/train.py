"""dfal train: a final model, trained on all labels of a store."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dfal.cli import output
from dfal.cli.commands import Command, option
from dfal.cli.options import PATH, json_option, network_option, quiet_option, settings
from dfal.errors import DfalError, Stopped
from dfal.labelling.learning.final_settings import FinalSettings

if TYPE_CHECKING:
    from dfal.labelling.learning.final import Measured, Report


@click.command(
    cls=Command,
    examples=[
        ("train on all labels of photos", "train photos.labels.db"),
        (
            "however long it takes, for other programs too",
            "train photos.labels.db --fine-tune --onnx photos.onnx",
        ),
    ],
)
@click.argument("store", type=PATH)
@settings(FinalSettings, "backbone", "size", "labels_only", group="Model")
@network_option
@option(
    "--fine-tune/--no-fine-tune",
    default=None,
    group="Training",
    help=(
        "Train the whole network, however long it takes, or a linear layer only; the whole one is"
        " kept where it is better.  [default: if there is time]"
    ),
)
@settings(FinalSettings, "fit", "augment", "epochs", "minutes", "device", "seed", group="Training")
@option("--out", type=PATH, group="Output", help="The model's file.  [default: next to the STORE]")
@option("--onnx", type=PATH, group="Output", help="Also write the model as ONNX to this file.")
@json_option("what was trained and its accuracy")
@quiet_option
def train(  # noqa: PLR0917
    store: Path,
    network: str | None,
    fine_tune: bool | None,
    out: Path | None,
    onnx: Path | None,
    as_json: bool,
    quiet: bool,
    **configuration: Any,
) -> None:
    """Train a final model on all labels of a STORE but the hold-out, which measures it.

    First a linear layer is trained on the features of a pretrained backbone, then the whole
    network, with augmentation. Labels that were not trained on decide which is better. The page of
    the store may be open meanwhile.
    """
    from dfal import models
    from dfal.labelling.learning.final import train_final

    final = FinalSettings(**configuration, fine_tune=fine_tune, model=network or "")
    if store.is_dir():
        raise DfalError(
            f"{store} is a folder: name a store that `dfal label` made, such as"
            f" {store.resolve().name}.labels.db"
        )
    try:
        with _Progress(quiet or as_json) as progress:
            report = train_final(store, out, final, progress)
    except KeyboardInterrupt:
        raise Stopped("no model was written: run the same command to start again") from None
    if onnx:
        saved = models.load(report.path, network or final.backbone or None)
        models.save_onnx(saved.network, saved.card, onnx)
    if as_json:
        output.print_json(report.to_dict() | {"onnx": onnx})
    elif not quiet:
        _print(report, onnx)


def _print(report: "Report", onnx: Path | None) -> None:
    output.print_rows(
        [
            ("network", report.network),
            *(("chosen", sentence) for sentence in report.why),
            ("augmentation", report.augmentation),
            (
                "trained on",
                f"{report.labels:,} labels, {report.annotations:,} of them given by people,"
                f" and {report.unlabelled:,} images without a label",
            ),
            ("accuracy", _measured(report.accuracy) if report.accuracy else "not measured"),
            *((f"  {name}", _measured(each)) for name, each in report.classes.items()),
            *(("note", sentence) for sentence in report.notes),
            ("time", f"{report.seconds / 60:.1f} minutes"),
            ("model", str(report.path)),
            *([("ONNX", str(onnx))] if onnx else []),
        ]
    )
    path = shlex.quote(str(report.path))
    output.print_lines(
        f"use it: dfal predict {path} FOLDER",
        *([] if onnx else [f"for other programs: dfal model {path} --onnx FILE"]),
    )


def _measured(measured: "Measured") -> str:
    return (
        f"{measured.value:.1%} (95 % CI {measured.low:.1%} to {measured.high:.1%}) of"
        f" {measured.of:,} hold-out answer{'s' if measured.of != 1 else ''}"
    )


class _Progress:
    """Shows what is done on standard error, if that is a terminal."""

    def __init__(self, hidden: bool):
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        console = Console(stderr=True)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=hidden or not sys.stderr.isatty(),
        )
        self._task = self._bar.add_task("starting", total=None)

    def __enter__(self) -> "_Progress":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def __call__(self, activity: str, done: int, total: int) -> None:
        if self._bar.tasks[0].description != activity:
            self._bar.reset(self._task, description=activity, total=total)
        self._bar.update(self._task, completed=done, total=total)
