"""Every file that dfal writes is there whole or not at all: a full disk or Ctrl-C leaves the old
one, and nothing beside it."""

import contextlib
import errno
import gzip
import os
import resource
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch
from PIL import Image

import dfal
from dfal import models, reproduce
from dfal.analysis import studies
from dfal.analysis.rows import COLUMNS
from dfal.analysis.tables import Cell, Table
from dfal.cli import cli
from dfal.data.datasets import Dataset, download, mapped
from dfal.data.image_array import Images
from dfal.errors import DfalError
from dfal.experiments.store import Store
from dfal.labelling.export import Label
from dfal.labelling.export.csv_table import write_csv
from dfal.labelling.export.folders import write_folders, write_hugging_face
from dfal.labelling.export.parquet import write_parquet
from dfal.reporting import contact_sheet, html, latex_csv
from dfal.reporting.chart import Chart

CARD = models.ModelCard(("zero", "one", *map(str, range(2, 10))), (1, 28, 28))
TABLE = Table("one", "Table: two", "a caption", ("a",), (("row", (Cell("1.0"),)),))
LABEL = Label("a.png", "cat", "Ada", "", "given", 1.0)
Writer = Callable[[Path], object]


def prepare(folder: Path) -> None:
    """Make what the writers read: a store, a model, a folder of one photo."""
    (folder / "kept.db").write_bytes((Path(__file__).parent / "version-1.db").read_bytes())
    with torch.random.fork_rng():
        torch.manual_seed(0)
        models.save(dfal.lenet5(), CARD, folder / "m.safetensors")
    (folder / "photos").mkdir()
    Image.new("L", (28, 28)).save(folder / "photos" / "a.png")


def page(path: Path) -> None:
    with Store(path.parent.parent / "kept.db") as store:
        html.write(store, reproduce.read_results(store), path)


def figure(path: Path) -> None:
    from matplotlib.figure import Figure

    Chart(Figure()).write(path)


def picture(path: Path) -> None:
    images, digits = Images(np.zeros((4, 1, 8, 8), np.uint8)), torch.tensor([0, 1, 0, 1])
    contact_sheet.write(Dataset(images, digits, images, digits, ("a", "b")), "four", path)


def onnx(path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:  # an export takes seconds and is tested elsewhere
        proto = MagicMock()
        proto.SerializeToString.return_value = b"\x08" * 99
        patch.setattr("importlib.util.find_spec", lambda _: True)
        patch.setattr("torch.onnx.export", lambda *_, **__: SimpleNamespace(model_proto=proto))
        models.save_onnx(dfal.lenet5(), CARD, path)


def predictions(path: Path) -> None:
    model, photos = path.parent.parent / "m.safetensors", path.parent.parent / "photos"
    with cli.make_context(
        "dfal", ["predict", str(model), str(photos), "--out", str(path)]
    ) as context:
        cli.invoke(context)


def rows(path: Path) -> None:
    """Write a large data set in the form in which it is kept."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mapped, "folders", lambda _: [path.parent])
        mapped.write("x", path.name, (2, 1, 8, 8), [np.zeros((2, 1, 8, 8), np.uint8)])


WRITERS: dict[str, tuple[str, Writer]] = {
    "--csv": ("m.csv", lambda path: studies.write_csv([], path)),
    "--tables": ("one-two.tex", lambda path: latex_csv.write(path.parent, [TABLE], [])),
    "--figures as PDF": ("a.pdf", figure),
    "--figures as SVG": ("a.svg", figure),
    "the report's page": ("report.html", page),
    "a model": ("a.safetensors", lambda path: models.save(dfal.lenet5(), CARD, path)),
    "a model as ONNX": ("a.onnx", onnx),
    "predictions": ("p.csv", predictions),
    "a picture of a data set": ("four.png", picture),
    "labels as CSV": ("l.csv", lambda path: write_csv([LABEL], path.parent, path)),
    "labels as Parquet": ("l.parquet", lambda path: write_parquet([LABEL], path.parent, path)),
    "a data set in our form": ("pool.npy", rows),
}


@contextlib.contextmanager
def full_disk() -> Iterator[None]:
    """Let no file grow beyond a few bytes: what begins to be written cannot be finished."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        signal.signal(signal.SIGXFSZ, before)


@contextlib.contextmanager
def interrupted() -> Iterator[None]:
    """Press Ctrl-C when all is written, and before it has its name."""

    def stop(_: Any) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", stop)
        yield


@pytest.mark.parametrize("writer", WRITERS)
def test_a_full_disk_or_ctrl_c_leaves_the_old_file_and_nothing_beside_it(
    tmp_path: Path, writer: str
) -> None:
    if "Parquet" in writer:
        pytest.importorskip("pyarrow")
    name, write = WRITERS[writer]
    path = tmp_path / "there" / name
    path.parent.mkdir()
    prepare(tmp_path)
    with interrupted(), pytest.raises(KeyboardInterrupt):
        write(path)
    assert list(path.parent.iterdir()) == []
    write(path)
    old, there = path.read_bytes(), sorted(path.parent.iterdir())
    assert len(old) > 8
    for trouble, error in ((full_disk, DfalError), (interrupted, KeyboardInterrupt)):
        with (
            trouble(),
            pytest.raises(error, match="cannot be written" if error is DfalError else None),
        ):
            write(path)
        assert path.read_bytes() == old
        assert sorted(path.parent.iterdir()) == there


def test_a_download_that_is_stopped_while_it_is_unpacked_leaves_no_half_of_it(
    tmp_path: Path,
) -> None:
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror" / "a.gz").write_bytes(gzip.compress(b"x" * 99))
    cache = tmp_path / "cache"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(download, "folders", lambda _: [cache])
        with interrupted(), pytest.raises(KeyboardInterrupt):
            download.fetch("x", "a", [(tmp_path / "mirror").as_uri()])
        assert sorted(path.name for path in cache.iterdir() if path.name != download.SUMS) == [
            "a.0.part"
        ]
        assert download.fetch("x", "a", [(tmp_path / "mirror").as_uri()]).read_bytes() == b"x" * 99
    assert sorted(path.name for path in cache.iterdir() if path.name != download.SUMS) == ["a"]


def test_a_folder_of_copies_that_is_stopped_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.png").write_bytes(b"x")
    out = tmp_path / "out"
    out.mkdir()

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(shutil, "copy2", stop)
    for write in (write_folders, write_hugging_face):
        with pytest.raises(KeyboardInterrupt):
            write([LABEL], tmp_path, out / "copies")
        assert list(out.iterdir()) == []


def test_a_pipe_without_a_name_is_written_to() -> None:
    """As `--csv /dev/stdout | less` and `--csv >(gzip > all.csv.gz)` give it."""
    reading, writing = os.pipe()
    try:
        studies.write_csv([], Path(f"/dev/fd/{writing}"))
        assert os.read(reading, 10_000).decode() == ",".join(COLUMNS["measurements"]) + "\n"
    finally:
        os.close(reading)
        os.close(writing)


def test_a_figure_that_cannot_be_written_says_which(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", full)
    sentence = (
        r"the figure .*a\.pdf cannot be written \(No space left on device\): name another folder"
    )
    with pytest.raises(DfalError, match=sentence):
        figure(tmp_path / "a.pdf")
