"""The command line `dfal`. `commands` lists its commands; each is imported when it is called."""

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import click

from dfal import __version__
from dfal.cli.commands import CommandGroup
from dfal.data import datasets
from dfal.errors import DfalError, SettingError, Stopped


@click.group(
    cls=CommandGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, "-V", "--version", prog_name="dfal", help="Show the version.")
def cli() -> None:
    """Pick the images worth labelling, by DeepFool active learning and other query strategies."""


def main() -> None:
    """Run the command line.

    Wrong use and bad input end in one sentence and exit code 2; Ctrl-C and SIGTERM end in one
    sentence and exit code 130.
    """
    # So that package.module:name finds files of this folder, in worker processes too, which are
    # given this path. It comes last: a file of the user's that is called as a library's module is
    # does not stand in for it.
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)
    datasets.move({})
    try:
        with _sigterm_as_sigint():
            cli.main(prog_name="dfal", standalone_mode=False)
    except SettingError as error:
        click.echo(f"dfal: --{error.name.replace('_', '-')} {error.reason}", err=True)
        sys.exit(2)
    except DfalError as error:
        click.echo(f"dfal: {error}", err=True)
        sys.exit(2)
    except (Stopped, KeyboardInterrupt, click.exceptions.Abort) as stop:
        click.echo(f"dfal: stopped; {stop}" if str(stop) else "dfal: stopped", err=True)
        # An interrupt inside exec of a text, as in dataclass while a module is imported, would make
        # Python end by SIGINT, handled or not; exec of another text makes it forget that.
        exec("")  # noqa: S102
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)


@contextlib.contextmanager
def _sigterm_as_sigint() -> Iterator[None]:
    """Let SIGTERM, by which systems and job queues end a process, do what Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
