"""The command line: dfal label | export | predict | model | run | reproduce | report | strategies |
data. One file a topic."""

import sys
from pathlib import Path

import click

from dfal.cli.label import export, label
from dfal.cli.lists import data, strategies
from dfal.cli.options import refuse_empty_paths
from dfal.cli.predict import model, predict
from dfal.cli.report import report
from dfal.cli.reproduce import reproduce
from dfal.cli.run import run
from dfal.data import datasets
from dfal.errors import DfalError, Stopped


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(package_name="dfal")
def cli() -> None:
    """Label fewer images: ask about those closest to the network's decision boundary, and learn
    from each answer twice."""


for command in (label, export, predict, model, run, reproduce, report, strategies, data):
    refuse_empty_paths(command)
    cli.add_command(command)


def main() -> None:
    """Run the command line; wrong use and bad input end in one sentence and exit code 2, Ctrl-C in
    130."""
    # So that package.module:name finds files of this folder, in worker processes too, which are
    # given this path. It comes last: a file of the user's that is called as a library's module is
    # does not stand in for it.
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)
    datasets.move({})
    try:
        cli.main(standalone_mode=False)
    except DfalError as error:
        click.echo(f"dfal: {error}", err=True)
        sys.exit(2)
    except (Stopped, click.exceptions.Abort) as stop:
        click.echo(f"dfal: stopped; {stop}" if str(stop) else "dfal: stopped", err=True)
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
