"""The command line as tests run it: in this process, in a folder of its own."""

import sys

import pytest

from dfal import cli
from dfal.experiments.store import Store

SMALL = [
    *("--annotations", "30"),
    *("--seeds", "1"),
    *("--epochs", "2"),
    *("--candidates", "20"),
    *("--processes", "1"),
]
"""Options of a run that takes seconds."""

OWN = """
import torch
from dataclasses import dataclass
from torch import nn
from dfal import Margin, Query, Random

def network(image, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(image[0] * image[1] * image[2], classes))

@dataclass(frozen=True)
class Mine:
    candidates: int | None = None

    def __call__(self, model, pool, k, rng):
        return Random()(model, pool, k, rng)

def plain(model, pool, k, rng):
    return Random()(model, pool, k, rng)
"""
"""Code of a user: a network, a strategy that is a class, and one that is a function."""


class Ran:
    """What a command left: exit code, standard output, standard error."""

    def __init__(self, code: int, out: str, err: str):
        self.code, self.out, self.err = code, out, err


class Shell:
    """Runs the command line in this process, in a folder of its own."""

    def __init__(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
        self.capsys, self.monkeypatch = capsys, monkeypatch

    def __call__(self, *arguments: str) -> Ran:
        self.monkeypatch.setattr(sys, "argv", ["dfal", *arguments])
        self.capsys.readouterr()
        try:
            cli.main()
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0
        out, err = self.capsys.readouterr()
        return Ran(code, out, err)

    def stopped_after(self, rounds: int, *arguments: str) -> Ran:
        """Run a command that is interrupted, as by Ctrl-C, when it stores one more round."""
        add, added = Store.add, 0

        def interrupted(store: Store, *arguments: object) -> None:
            nonlocal added
            added += 1
            if added > rounds:
                raise KeyboardInterrupt
            add(store, *arguments)  # type: ignore[arg-type]

        with self.monkeypatch.context() as patch:
            patch.setattr(Store, "add", interrupted)
            return self(*arguments)

    def refused(self, *arguments: str) -> str:
        """The one sentence with which a command is refused."""
        ran = self(*arguments)
        assert ran.code == 2, ran.out + ran.err
        assert "Traceback" not in ran.err
        assert ran.err.startswith("dfal: ")
        assert ran.err.count("\n") == 1, ran.err
        return ran.err
