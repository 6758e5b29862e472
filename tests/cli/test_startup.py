"""What is not needed is not imported: help, names, completion and typing errors answer at once."""

import os
import subprocess
import sys

import pytest

from dfal.cli.commands import COMMANDS

HEAVY = ("torch", "numpy", "scipy", "sklearn", "matplotlib", "PIL", "sqlite3", "jinja2", "rich")
CODE = f"""
import atexit, sys
atexit.register(lambda: print("imported:", *({set(HEAVY)} & sys.modules.keys()), file=sys.stderr))
sys.argv[0] = "dfal"
from dfal.cli import main
main()
"""


def imported(arguments: list[str], **environment: str) -> tuple[int, list[str]]:
    """Return the exit code of a command, and what heavy it imported."""
    ran = subprocess.run(
        [sys.executable, "-c", CODE, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | environment,
    )
    assert "Traceback" not in ran.stderr, ran.stderr
    return ran.returncode, ran.stderr.splitlines()[-1].split()[1:]


@pytest.mark.parametrize("arguments", [["--version"], ["-V"], ["--help"], ["strategies"]])
def test_a_look_up_imports_nothing_heavy(arguments: list[str]) -> None:
    assert imported(arguments) == (0, [])


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_imports_nothing_heavy(command: str) -> None:
    assert imported([command, "--help"]) == (0, [])


@pytest.mark.parametrize(
    "arguments", [["rnu"], ["run", "--sed", "3"], ["run", "--seeds", "0"], ["report"], ["--hlep"]]
)
def test_a_typing_error_imports_nothing_heavy(arguments: list[str]) -> None:
    assert imported(arguments) == (2, [])


@pytest.mark.parametrize("words", ["dfal ru", "dfal run --strategy ", "dfal run --dataset mni"])
def test_completion_imports_nothing_heavy(words: str) -> None:
    environment = {
        "_DFAL_COMPLETE": "bash_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": str(words.count(" ")),
    }
    assert imported([], **environment) == (0, [])


def test_import_is_light() -> None:
    heavy = [*HEAVY, "mlxtend", "pandas", "click", "dfal.experiments", "dfal.cli"]
    code = f"import sys, dfal; print([name for name in {heavy} if name in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
