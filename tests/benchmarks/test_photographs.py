"""`benchmarks/photographs.py` on a few tiny images: it must run when it is needed."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx2 as httpx
import numpy as np
import pytest
import torch
from PIL import Image

from dfal.data.datasets import Dataset
from dfal.data.image_array import Images

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

from photograph_data import prepare  # noqa: E402
from photographs import Row, append, markdown, read  # noqa: E402

pytest.importorskip("fastapi", reason="the page is an extra: pip install 'dfal[label]'")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """21 dark and 21 light images, in a folder for each class."""
    rng = np.random.default_rng(0)
    source = tmp_path / "shades"
    for name, brightness in (("dark", 40), ("light", 200)):
        (source / name).mkdir(parents=True)
        for index in range(21):
            pixels = rng.integers(0, 30, (16, 16), dtype=np.uint8) + brightness
            Image.fromarray(pixels.astype(np.uint8)).save(source / name / f"{name}-{index}.png")
    return source


def run(folder: Path, *options: str) -> str:
    command = [sys.executable, str(BENCHMARKS / "photographs.py"), "run", "--data", str(folder)]
    command += ["--seeds", "1", "--work", str(folder.parent / "work")]
    command += ["--out", str(folder.parent / "rows.csv"), *options]
    environment = os.environ | {"XDG_CACHE_HOME": str(folder.parent / "cache")}
    ran = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert not ran.returncode, ran.stderr
    return ran.stdout


def test_dfal_never_sees_classes_or_test_images(folder: Path, tmp_path: Path) -> None:
    data = prepare(str(folder), 3, 1000, tmp_path / "work")
    assert data.classes == ["dark", "light"]
    assert (len(data.truth), len(data.test_truth)) == (30, 12)
    assert sorted(data.truth) == sorted(path.name for path in data.folder.iterdir())
    assert all(path.stem.isdecimal() for path in data.folder.iterdir())
    parts = ((data.folder, data.truth), (data.test, data.test_truth))
    for part, truth in parts:
        for name, label in truth.items():
            assert (np.asarray(Image.open(part / name)).mean() > 128) == (label == "light")
    pool, test = ({(part / name).read_bytes() for name in truth} for part, truth in parts)
    assert len(pool) == 30 and not pool & test
    before = {name: (part / name).stat().st_mtime for part, truth in parts for name in truth}
    other = prepare(str(folder), 4, 1000, tmp_path / "work")
    assert {(other.test / name).read_bytes() for name in other.test_truth} != test
    assert other.truth.items() | other.test_truth.items() == (
        data.truth.items() | data.test_truth.items()
    )
    assert all((other.folder / name).stat().st_mtime == before[name] for name in other.truth)


def test_a_session_is_labelled_killed_resumed_and_measured(folder: Path) -> None:
    options = ["--arms", "pixels", "--labels", "2", "12", "18", "--kill-after", "9"]
    out = run(folder, *options)
    rows = list(read(folder.parent / "rows.csv").values())
    assert [int(row["labels"]) for row in rows] == [2, 12, 18], out
    assert rows[0]["accuracy"] == "nan" or int(rows[0]["trained_on"]) <= 2
    for row in rows[1:]:
        assert 6 <= int(row["trained_on"]) <= int(row["labels"])
        assert row["backbone"] == "pixels"
        assert row["classes"] == "2"
        assert float(row["accuracy"]) > 0.7
        assert float(row["low"]) < float(row["accuracy"]) <= float(row["high"])
    assert rows[1]["weights"] != rows[2]["weights"]
    assert "done before" in run(folder, *options)
    assert len((folder.parent / "rows.csv").read_text().splitlines()) == 4


def test_the_table_pairs_seeds(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    for seed, (ours, other) in enumerate([(0.8, 0.7), (0.9, 0.6), (0.7, 0.6)]):
        append(path, Row("cats", "default", seed, 10, accuracy=ours if seed else 0.2))
        append(path, Row("cats", "random", seed, 10, accuracy=other))
        append(path, Row("cats", "random", seed, 2))
    append(path, Row("cats", "random", 1, 4, accuracy=0.5))
    append(path, Row("cats", "default", 0, 10, accuracy=0.8))  # repeated
    lines = markdown(read(path)).splitlines()
    assert "| default | 3 | – | – | 80.0 ± 10.0 |" in lines
    assert "| random | 3 | – | 50.0 (1 of 3) | 63.3 ± 5.8 |" in lines
    # differences −10, −30, −10: mean −16.7, 4.303 · 11.55 / √3 = 28.7
    assert "| random − default |  | – | – | -16.7 ± 28.7 |" in lines


def test_a_signal_ends_the_page_too(folder: Path) -> None:
    command = [sys.executable, str(BENCHMARKS / "photographs.py"), "run", "--data", str(folder)]
    command += ["--work", str(folder.parent / "work"), "--out", str(folder.parent / "rows.csv")]
    log = folder.parent / "work/stores/shades-default,-pace-30-0/log.txt"
    environment = os.environ | {"XDG_CACHE_HOME": str(folder.parent / "cache")}
    with subprocess.Popen([*command, "--pace", "30"], env=environment) as process:
        for _ in range(1200):
            url = re.search(r"http://127.0.0.1:\d+", log.read_text() if log.exists() else "")
            if url is not None:
                break
            time.sleep(0.1)
        assert url is not None
        assert httpx.get(f"{url[0]}/api/progress", timeout=30).status_code == 200
        process.send_signal(signal.SIGTERM)
        process.wait(30)
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{url[0]}/api/progress")


def test_the_files_of_a_data_set_have_the_pixels_of_their_classes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shades = np.full((6, 1, 8, 8), 10, np.uint8) * np.arange(6, dtype=np.uint8)[:, None, None, None]
    pool, test = np.array([5, 1, 3]), np.array([4, 0])  # of one array, in another order
    data = Dataset(
        Images(shades, pool),
        torch.from_numpy(pool),
        Images(shades, test),
        torch.from_numpy(test),
        tuple("abcdef"),
    )
    monkeypatch.setattr("photograph_data.load", lambda name: data)
    made = prepare("shades", 0, 2, tmp_path)
    for folder, truth, count in ((made.folder, made.truth, 3), (made.test, made.test_truth, 2)):
        assert len(truth) == count
        for name, label in truth.items():
            assert np.asarray(Image.open(folder / name)).max() == 10 * "abcdef".index(label)
