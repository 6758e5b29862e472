"""dfal label and dfal export."""

import contextlib
import os
import shlex
import sys
import threading
import webbrowser
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.markup import escape

from dfal import models
from dfal.cli.options import settings
from dfal.data.image_folder import Folder
from dfal.data.listing import count_names
from dfal.data.path_names import PathIndex, class_key
from dfal.errors import DfalError, Stopped
from dfal.labelling.export import FORMATS, ModelFormat, labels
from dfal.labelling.learning.trainer import model_path as latest_network
from dfal.labelling.names import class_names
from dfal.labelling.photos import Photos
from dfal.labelling.setup import TRAINING_OPTIONS, open_session
from dfal.labelling.store.schema import Settings
from dfal.labelling.store.session import Session
from dfal.labelling.validation import image_file
from dfal.labelling.web.address import PublicAddress
from dfal.nn.training import Training
from dfal.spreadsheet import formulas
from dfal.storage import real_path


class WithClasses(click.Command):
    """A command whose --classes takes several words."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the option before each of its words, as click knows it."""
        spread: list[str] = []
        inside = False
        for argument in args:
            if argument == "--classes":
                inside = True
            elif argument.startswith("-"):
                inside = False
                spread.append(argument)
            else:
                spread += ["--classes", argument] if inside else [argument]
        try:
            return super().parse_args(ctx, spread)
        except click.MissingParameter as error:
            if "--classes" in args and error.param is not None and error.param.name == "photos":
                raise DfalError(
                    "the folder is missing: put it before --classes, which takes all words"
                    " behind it"
                ) from None
            raise


@click.command(cls=WithClasses)
@click.argument("photos", type=click.Path(path_type=Path))
@click.option(
    "--classes",
    multiple=True,
    metavar="NAME...",
    help="What there is to tell apart; more can be added on the page.",
)
@click.option(
    "--labels",
    type=click.Path(path_type=Path),
    help="A CSV with the columns path and label: labels that are known.",
)
@click.option(
    "--store",
    type=click.Path(path_type=Path),
    help="The file for every answer.  [default: PHOTOS.labels.db]",
)
@settings(Settings)
@settings(Training, *TRAINING_OPTIONS)
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Where to answer; another address asks for a token.",
)
@click.option("--port", type=click.IntRange(1, 65535), help="[default: 8765, or any that is free]")
@click.option(
    "--url",
    metavar="URL",
    help=(
        "Public address behind a reverse proxy, such as https://labels.example.org/photos/;"
        " requires a token."
    ),
)
@click.option("--browser/--no-browser", default=True, help="Whether to open the page.")
@click.pass_context
def label(  # noqa: PLR0917
    context: click.Context,
    /,
    photos: Path,
    classes: tuple[str, ...],
    labels: Path | None,
    store: Path | None,
    host: str,
    port: int | None,
    url: str | None,
    browser: bool,
    **configuration: Any,
) -> None:
    """Label the images in the folder PHOTOS on a page, while a network learns and asks about those
    it knows least.

    The names of sub-folders are labels that are known, unless --classes names others. The same
    command goes on where it was stopped.
    """
    beside = photos.parent if photos.name not in {"", ".."} else photos.resolve().parent
    path = real_path(store or beside / f"{photos.resolve().name}.labels.db")
    given = {
        name: value
        for name, value in configuration.items()
        if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
    }
    wanted = class_names(classes)
    try:
        from dfal.labelling.web.page_server import PageServer, bound  # an extra
    except ImportError as error:
        raise DfalError(f"the page needs {error.name}: pip install 'dfal[label]'") from None
    public = PublicAddress.of(url) if url is not None else None
    with contextlib.ExitStack() as opened:
        listening = opened.enter_context(bound(host, port))
        session, folder = open_session(opened, photos, path, wanted, labels=labels, options=given)
        serving = PageServer(session, Photos(session, folder), path, host, listening, public=public)
        console = Console(highlight=False, soft_wrap=True)
        for line in _found(session, folder, photos, path):
            console.print(escape(line))
        console.print(f"[bold]{serving.url}[/bold]")
        console.print("Ctrl-C stops it; the same command goes on.")
        if browser and _has_a_screen():
            threading.Timer(0.5, webbrowser.open, [serving.url]).start()
        with contextlib.suppress(KeyboardInterrupt):
            serving.run()
        raise Stopped(
            f"{_answers(session)} stored in {path}: go on with the same command, "
            f"take them home with dfal export {shlex.quote(str(path))}"
        )


def _found(session: Session, folder: Folder, photos: Path, path: Path) -> Iterator[str]:
    """What lies in the folder, and what of it is left out and why."""
    state = session.state
    there = PathIndex(folder.paths)
    gone = sum(there.get(image) < 0 for image in state.paths) + len(
        folder.set_aside().keys() & {*folder.paths}
    )
    known = int((state.prelabelled >= 0).sum())
    labelled = f", {known:,} of them came with a label" if known else ""
    yield (
        f"{_number(len(state.paths) - gone, 'image')} in {photos}{labelled}; every answer goes to"
        f" {path}"
    )
    if gone:
        yield (
            f"{_number(gone, 'image')} of the store {'is' if gone == 1 else 'are'} no longer there"
            " or cannot be read"
        )
    classes = {class_key(name) for name in (*state.classes, *state.former)}
    ignored = Counter(name for name in folder.known.values() if class_key(name) not in classes)
    if ignored:
        yield (
            f"labels that are none of the classes are left out: {count_names(ignored)};"
            " --classes NAME takes them in"
        )
    if folder.left_out:
        yield f"rows of the CSV that are no labels are left out: {count_names(folder.left_out)}"
    if folder.layout.beside:
        beside = count_names(folder.layout.beside)
        yield f"folders beside the parts of the data set say nothing about their images: {beside}"
    if folder.others:
        yield f"files of other kinds are left out: {count_names(folder.others)}"


def _number(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _answers(session: Session) -> str:
    state = session.refresh()
    count = sum(map(len, state.votes.values())) + len(state.corrected.keys() - state.votes.keys())
    return f"{_number(count, 'answer')} {'is' if count == 1 else 'are'}"


def _has_a_screen() -> bool:
    return sys.platform in {"win32", "darwin"} or bool(
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    )


@click.command()
@click.argument("store", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "--as",
    "form",
    type=click.Choice([*FORMATS]),
    default="csv",
    show_default=True,
    help="; ".join(f"{name}: {FORMATS.about(name)}" for name in FORMATS) + ".",
)
@click.option(
    "--guess",
    is_flag=True,
    help="Also images that nobody labelled, as the latest network sees them.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="The file or folder to write.  [default: beside the STORE]",
)
@click.option(
    "--model", help="The network, where it is package.module:function and its code may be run."
)
def export(store: Path, form: str, guess: bool, out: Path | None, model: str | None) -> None:
    """Take the labels of a STORE home, or its network.

    It may be the store of a page that is open. The latest network lies beside the store as
    safetensors already.
    """
    if store.is_dir():
        raise DfalError(
            f"{store} is a folder: name a store that `dfal label` made, such as"
            f" {store.resolve().name}.labels.db"
        )
    written = FORMATS[form]
    path = out or store.with_name(
        store.name.removesuffix(".db").removesuffix(".labels") + written.ending
    )
    console = Console(highlight=False, soft_wrap=True)
    with Session.open(store, write=False) as session:
        if isinstance(written, ModelFormat):
            written.write(_network(store, model), path)
            console.print(f"the network in {path}")
            return
        saved = _network(store, model) if guess else None
        rows = labels(session, _guesses(session, saved) if saved else None)
        if not rows:
            raise DfalError(f"{store} holds no label yet: answer some questions first")
        missing = written.write(rows, Path(session.settings.folder), path)
    gone = set(missing)
    how = Counter(row.how for row in rows if written.takes(row) and row.path not in gone)
    console.print(
        escape(f"{', '.join(f'{count:,} {name}' for name, count in how.most_common())}: {path}")
    )
    if form == "csv" and (warning := formulas(row.path for row in rows)):
        console.print(escape(warning))
    if saved:
        console.print(escape(f"the guesses are of a model: {saved.card.caution()}"))
    if missing:
        listed = ", ".join(missing[:5]) + (" …" if missing[5:] else "")
        console.print(
            escape(f"{_number(len(missing), 'image')} no longer there and left out: {listed}")
        )
    if (latest := latest_network(real_path(store))).exists():
        console.print(
            escape(f"the network in {latest}: dfal predict {shlex.quote(str(latest))} FOLDER")
        )


def _network(store: Path, model: str | None) -> models.SavedModel:
    path = latest_network(real_path(store))
    if not path.exists():
        raise DfalError(f"there is no network {path} yet: label some images of two classes first")
    return models.load(path, model)


def _guesses(session: Session, saved: models.SavedModel) -> dict[int, tuple[int, float]]:
    """What the network sees in the images that have no label."""
    state = session.refresh()
    source = Path(session.settings.folder)
    images = {
        image_file(source, path): i
        for i, path in enumerate(state.paths)
        if state.labels[i] < 0 and i not in state.unreadable
    }
    number = dict(state.former) | {name: i for i, name in enumerate(state.classes)}
    if strange := [name for name in saved.card.classes if name not in number]:
        raise DfalError(
            f"the network beside the store knows the class {strange[0]!r}, which the store has not:"
            " train it again"
        )
    found = models.label(saved, list(images))
    return {
        images[one.path]: (number[one.label], one.confidence)
        for one in found
        if isinstance(one, models.Prediction)
    }
