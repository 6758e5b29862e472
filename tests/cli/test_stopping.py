"""Ctrl-C and SIGTERM end a command alike: one sentence, exit code 130, nothing half written, and
what was stored is resumed."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torch import nn

from dfal import models
from dfal.experiments.store import Store
from shell import SMALL, Shell

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM to be caught")

DFAL = [sys.executable, "-m", "dfal"]
SIGNALS = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])


def started(arguments: list[str], **options: Any) -> subprocess.Popen[str]:
    """Start a command that hears Ctrl-C, though the tests may run in the background, where it is
    ignored."""
    return subprocess.Popen(
        [*DFAL, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
        **options,
    )


def output(process: subprocess.Popen[str]) -> tuple[str, str]:
    """Return standard output and standard error, when the command has ended; it may not hang."""
    try:
        return process.communicate(timeout=120)
    except subprocess.TimeoutExpired:
        process.kill()
        raise


def stopped(arguments: list[str], number: int, ready: Callable[[], bool]) -> tuple[int, str, str]:
    """Return exit code, standard output and standard error of a command that got a signal as soon
    as it was ready."""
    with started(arguments) as process:
        until = time.monotonic() + 300
        while not ready():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < until, "it was never ready"
            time.sleep(0.05)
        process.send_signal(number)
        out, err = output(process)
    return process.returncode, out, err


def has_a_round(path: Path) -> bool:
    if not path.is_file() or not path.stat().st_size:
        return False
    with Store(path) as store:
        return any(store.records(trial) for trial in store.trials())


@SIGNALS
def test_a_run_is_resumed_to_the_same_end(dfal: Shell, number: int) -> None:
    few = [*SMALL, "--strategy", "random", "--epochs", "40"]
    assert dfal("run", *few, "--store", "whole.db").code == 0
    code, out, err = stopped(
        ["run", *few, "--store", "s.db"], number, lambda: has_a_round(Path("s.db"))
    )
    assert (code, out) == (130, ""), err
    assert err.strip() == (
        "dfal: stopped; every finished round is stored: resume with dfal run --resume --store s.db"
    )
    assert dfal("run", "--resume", "--store", "s.db", "--processes", "1").code == 0
    with Store("whole.db") as whole, Store("s.db") as resumed:
        assert resumed.contents() == whole.contents()


@SIGNALS
def test_a_prediction_leaves_no_half_written_file(
    dfal: Shell, trained: nn.Module, number: int
) -> None:
    card = models.ModelCard(tuple("0123456789"), (1, 28, 28))
    models.save(trained, card, Path("m.safetensors"))
    Path("photos").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (600, 28, 28), np.uint8)
    for index, image in enumerate(pixels):
        Image.fromarray(image).save(f"photos/{index}.png")
    Path("labels.csv").write_text("of last year")
    code, out, err = stopped(
        ["predict", "m.safetensors", "photos", "--out", "labels.csv", "--distance"],
        number,
        lambda: any(Path().glob(".labels.csv.*.part")),
    )
    assert (code, out, err.strip()) == (130, "", "dfal: stopped")
    assert Path("labels.csv").read_text() == "of last year"
    assert sorted(path.name for path in Path().iterdir()) == [
        "labels.csv",
        "m.safetensors",
        "photos",
    ]


def test_the_handler_of_sigterm_is_put_back(dfal: Shell) -> None:
    before = signal.getsignal(signal.SIGTERM)
    assert dfal("strategies", "--quiet").code == 0
    assert signal.getsignal(signal.SIGTERM) is before


@SIGNALS
def test_a_page_says_how_to_resume(dfal: Shell, tmp_path: Path, number: int) -> None:
    pytest.importorskip("fastapi", reason="the page is an extra: pip install 'dfal[label]'")
    Path("photos").mkdir()
    for index in range(6):
        Image.new("L", (20, 20), 40 * index).save(f"photos/{index}.png")
    with started(
        ["label", "photos", "--classes", "a", "b", "--no-browser", "--quiet"],
        env=os.environ | {"XDG_CACHE_HOME": str(tmp_path / "cache")},
    ) as process:
        assert process.stdout is not None
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/?\n", process.stdout.readline())
        process.send_signal(number)
        out, err = output(process)
    assert (process.returncode, out) == (130, ""), err
    assert err.strip().endswith(
        "0 answers are stored in photos.labels.db: run the same command to resume, or export the"
        " labels with dfal export photos.labels.db"
    )
