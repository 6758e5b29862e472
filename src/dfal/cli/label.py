"""dfal label: the page on which people label a folder of images."""

import contextlib
import os
import shlex
import sys
import threading
import webbrowser
from pathlib import Path
from typing import Any

import click

from dfal.cli import output
from dfal.cli.commands import Command, option
from dfal.cli.options import PATH, json_option, options_given, settings
from dfal.errors import DfalError, Stopped
from dfal.labelling.settings import LABEL_TRAINING, TRAINING_OPTIONS, Settings
from dfal.nn.training_settings import Training


class _CommandWithClasses(Command):
    """A command whose --classes takes several words."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the option before each of its words, as click knows it.

        Raises:
            DfalError: where the folder stands behind --classes.
        """
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


@click.command(
    cls=_CommandWithClasses,
    examples=[
        ("label a folder of photographs", "label photos --classes cat dog"),
        (
            "query strategy and network of your choice, three people an image",
            "label photos --strategy margin --model vgg8 --votes 3",
        ),
    ],
)
@click.argument("photos", type=PATH)
@option(
    "--classes",
    multiple=True,
    metavar="NAME...",
    group="Folder",
    help="The classes; more can be added on the page.",
)
@option(
    "--labels",
    type=PATH,
    group="Folder",
    help="A CSV with the columns path and label: labels that are known.",
)
@option(
    "--store",
    type=PATH,
    group="Folder",
    help="The file for every answer.  [default: PHOTOS.labels.db]",
)
@settings(Settings, "strategy", "candidates", "first", "batch", group="Queries")
@settings(Settings, "holdout", "votes", "lease", "target", "seed", group="Answers")
@settings(Settings, "backbone", "labels_only", "model", "fit", "size", "device", group="Model")
@settings(Training, *TRAINING_OPTIONS, group="Model", defaults=LABEL_TRAINING)
@option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    group="Page",
    help="Address to listen on; any but localhost requires a token.",
)
@option(
    "--port",
    type=click.IntRange(1, 65535),
    group="Page",
    help="Port to listen on.  [default: 8765, or any that is free]",
)
@option(
    "--url",
    metavar="URL",
    group="Page",
    help=(
        "Public address behind a reverse proxy, such as https://labels.example.org/photos/;"
        " requires a token."
    ),
)
@option("--browser/--no-browser", default=True, group="Page", help="Whether to open the page.")
@json_option("address, store and counts of images")
@option("-q", "--quiet", is_flag=True, group="Output", help="Print errors and the address only.")
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
    as_json: bool,
    quiet: bool,
    **configuration: Any,
) -> None:
    """Label the images in the folder PHOTOS on a page.

    Meanwhile a model trains and selects the images worth labelling.

    The names of sub-folders are known labels, unless --classes names others. Run the same command
    to resume.
    """
    from dfal.cli.folder_summary import answers_stored, summary, summary_lines
    from dfal.labelling.names import class_names
    from dfal.labelling.photos import Photos
    from dfal.labelling.setup import open_session
    from dfal.storage import real_path

    beside = photos.parent if photos.name not in {"", ".."} else photos.resolve().parent
    path = real_path(store or beside / f"{photos.resolve().name}.labels.db")
    given = {name: value for name, value in options_given(context).items() if name in configuration}
    wanted = class_names(classes)
    try:
        from dfal.labelling.web.page_server import PageServer, bound  # an extra
    except ImportError as error:
        raise DfalError(f"the page needs {error.name}: pip install 'dfal[label]'") from None
    from dfal.labelling.web.address import PublicAddress

    public = PublicAddress.of(url) if url is not None else None
    with contextlib.ExitStack() as opened:
        listening = opened.enter_context(bound(host, port))
        session, folder = open_session(opened, photos, path, wanted, labels=labels, options=given)
        server = PageServer(session, Photos(session, folder), path, host, listening, public=public)
        with contextlib.suppress(KeyboardInterrupt):
            if as_json:
                output.print_json({"url": server.url, **summary(session, folder, path)})
            elif quiet:
                output.print_lines(server.url)
            else:
                output.print_lines(
                    *summary_lines(session, folder, photos, path),
                    output.heading(server.url),
                    "Press Ctrl-C to stop; run the same command to resume.",
                )
            sys.stdout.flush()
            if browser and _has_a_screen():
                threading.Timer(0.5, webbrowser.open, [server.url]).start()
            server.run()
        raise Stopped(
            f"{answers_stored(session)} stored in {path}: run the same command to resume,"
            f" or export the labels with dfal export {shlex.quote(str(path))}"
        )


def _has_a_screen() -> bool:
    return sys.platform in {"win32", "darwin"} or bool(
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    )
