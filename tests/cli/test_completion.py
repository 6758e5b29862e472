"""Shells complete commands, options and the names of the registries."""

import shutil
import subprocess

import click
import pytest
from click.shell_completion import ShellComplete

from dfal.cli import cli
from dfal.data.datasets import DATASETS
from dfal.reproduce.settings import ARTEFACTS, PRESETS
from dfal.strategies import STRATEGIES
from shell import Shell


def completed(*words: str) -> list[str]:
    """Return what the last of these words may become."""
    *before, incomplete = words
    return [
        item.value
        for item in ShellComplete(cli, {}, "dfal", "_DFAL_COMPLETE").get_completions(
            before, incomplete
        )
    ]


def test_commands_and_options() -> None:
    assert completed("re") == ["reproduce", "report"]
    assert "--strategy" in completed("run", "--st")


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["run", "--strategy", ""], list(STRATEGIES)),
        (
            ["label", "photos", "--strategy", "core"],
            ["core-set", "core-set-robust", "core-set-released"],
        ),
        (["run", "--strategy", "dfal,ba"], ["dfal,bald", "dfal,badge", "dfal,batch-bald"]),
        (["run", "--strategy", "random,margin+"], ["random,margin+twins"]),
        (["run", "--dataset", "mnist"], [name for name in DATASETS if name.startswith("mnist")]),
        (["data", "shoe-bag-"], ["shoe-bag-sample"]),
        (["run", "--model", "len"], ["lenet5"]),
        (["reproduce", "table1", "--other", "v"], ["vgg8"]),
        (["reproduce", "table1", "--preset", ""], list(PRESETS)),
        (["reproduce", ""], list(ARTEFACTS)),
        (["export", "s.db", "--as", "h"], ["hugging-face"]),
        (["report", "s.db", "--against", "u-"], ["u-herding"]),
        (["completion", ""], ["bash", "zsh", "fish"]),
    ],
)
def test_names_come_from_the_registries(words: list[str], names: list[str]) -> None:
    assert sorted(completed(*words)) == sorted(names)


def test_what_is_no_name_is_a_path() -> None:
    (item,) = ShellComplete(cli, {}, "dfal", "_DFAL_COMPLETE").get_completions(
        ["run", "--dataset"], "./photos"
    )
    assert (item.value, item.type) == ("./photos", "file")


@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
def test_the_script_of_a_shell_is_one_that_it_reads(dfal: Shell, name: str) -> None:
    ran = dfal("completion", name)
    assert ran.code == 0
    assert f"_DFAL_COMPLETE={name}_complete" in ran.out
    if program := shutil.which(name):
        checked = subprocess.run(
            [program, "-n"], input=ran.out, text=True, capture_output=True, check=False
        )
        assert (checked.returncode, checked.stderr) == (0, "")


def test_every_option_with_names_completes_them() -> None:
    """Options that take a name of a registry, in whatever command they are."""
    named = {"--strategy", "--dataset", "--model", "--other", "--preset", "--against"}
    named |= {"--executor"}
    for name in cli.list_commands(click.Context(cli)):
        command = cli.get_command(click.Context(cli), name)
        assert command is not None
        for param in command.params:
            if param.name != "network" and named & {*param.opts}:
                assert param._custom_shell_complete is not None, (name, param.opts)
