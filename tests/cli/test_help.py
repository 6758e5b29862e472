"""Help says what a command does, with units, defaults and examples that work."""

import shlex
import subprocess
import sys

import click
import pytest

from dfal.cli import cli
from dfal.cli.commands import COMMANDS, OTHER, SECTIONS, Command
from shell import Shell


def command_of(name: str) -> Command:
    command = COMMANDS[name]
    assert isinstance(command, Command)
    return command


def test_commands_stand_in_sections(dfal: Shell) -> None:
    out = dfal("--help").out
    places = [out.index(f"\n{section}:\n") for section in SECTIONS]
    assert places == sorted(places)
    for entries in SECTIONS.values():
        for name in entries:
            assert f"\n  {name} " in out


@pytest.mark.parametrize("name", COMMANDS)
def test_options_stand_under_headings_with_two_examples(name: str) -> None:
    command = command_of(name)
    context = click.Context(command, info_name=f"dfal {name}")
    groups = [
        getattr(param, "group", OTHER)
        for param in command.params
        if isinstance(param, click.Option)
    ]
    assert OTHER not in groups, "every option but --help names its heading"
    text = command.get_help(context)
    for group in groups:
        assert f"\n{group}:\n" in text
    assert len(command.examples) == 2
    for _, line in command.examples:
        assert f"  dfal {line}\n" in f"{text}\n"


@pytest.mark.parametrize(
    "line", [line for name in COMMANDS for _, line in command_of(name).examples]
)
def test_examples_are_commands_that_exist(line: str) -> None:
    name, *arguments = shlex.split(line.partition(" > ")[0])
    command = command_of(name)
    command.make_context(f"dfal {name}", arguments).close()


def test_help_says_units_and_defaults() -> None:
    out = subprocess.run(
        [sys.executable, "-m", "dfal", "run", "--help"], capture_output=True, text=True, check=True
    ).stdout
    assert out.startswith("Usage: dfal run ")
    flat = " ".join(out.split())
    for option, default in {
        "--annotations": "100",
        "--batch": "10",
        "--candidates": "300",
        "--seeds": "3",
        "--epochs": "100",
    }.items():
        assert f"[default: {default}" in flat[flat.index(option) :][:260], option


@pytest.mark.parametrize("columns", [30, 40, 80, 200])
@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_help_is_no_wider_than_the_terminal(
    dfal: Shell, monkeypatch: pytest.MonkeyPatch, name: str, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    ran = dfal(*[name] * bool(name), "--help")
    text, _, _ = ran.out.partition("\nExamples:")
    for line in text.splitlines():  # names of options, and words, are not broken
        name_or_word = line.lstrip().startswith("-") or len(line.split()) == 1
        assert len(line) <= min(columns, 100) or (name_or_word and columns < 80), line
    assert ran.code == 0


def test_an_unknown_option_is_refused_with_the_nearest(dfal: Shell) -> None:
    ran = dfal("run", "--anotations", "50")
    assert ran.code == 2
    assert "--annotations" in ran.err


def test_an_unknown_command_is_refused_with_the_nearest(dfal: Shell) -> None:
    assert "there is no command 'rnu': did you mean 'run'?" in dfal.refused("rnu")


@pytest.mark.parametrize("flag", ["-V", "--version"])
def test_the_version_is_shown(dfal: Shell, flag: str) -> None:
    from dfal import __version__

    assert dfal(flag).out == f"dfal, version {__version__}\n"


def test_the_group_lists_every_command() -> None:
    assert cli.list_commands(click.Context(cli)) == list(COMMANDS)
