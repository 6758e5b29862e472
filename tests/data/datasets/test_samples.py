from pathlib import Path

import numpy as np
import pytest
import torch

from dfal.data.datasets import DATASETS, samples
from dfal.errors import DfalError

NAMES = ["quick-draw-sample", "quick-draw-4", "shoe-bag-sample"]


@pytest.mark.parametrize("name", NAMES)
def test_a_sample_that_is_not_there_says_what_to_do(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DFAL_DATA", str(tmp_path))
    assert DATASETS[name].where() is None
    with pytest.raises(
        DfalError, match=rf"{name} is not here: set DFAL_DATA to a folder that holds {name}\.npz"
    ):
        DATASETS[name].load()
    monkeypatch.delenv("DFAL_DATA")
    with pytest.raises(DfalError, match="set DFAL_DATA"):
        DATASETS[name].load()


def test_a_sample_never_stands_for_the_full_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in NAMES:
        (tmp_path / f"{name}.npz").touch()
    monkeypatch.setenv("DFAL_DATA", str(tmp_path))
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda name: str(tmp_path / "cache" / name))
    assert all(DATASETS[name].where() for name in NAMES)
    assert DATASETS["quick-draw"].where() is None
    assert DATASETS["shoe-bag"].where() is None


def test_a_sample_is_shuffled_with_a_fifth_of_each_class_held_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = np.repeat([0, 1, 2], [50, 20, 30])
    images = np.arange(100 * 16, dtype=np.uint32).astype(np.uint8).reshape(100, 4, 4)
    images[:, 0, 0] = np.arange(100)
    np.savez(
        tmp_path / "quick-draw-4.npz",
        images=images,
        labels=labels,
        classes=np.array(["a", "b", "c"]),
        ids=np.arange(100),
    )
    monkeypatch.setenv("DFAL_DATA", str(tmp_path))
    data, again = samples.load("quick-draw-4"), samples.load("quick-draw-4")
    assert data.fingerprint == again.fingerprint
    assert data.labels.bincount().tolist() == [40, 16, 24]
    assert data.test_labels.bincount().tolist() == [10, 4, 6]
    assert data.classes == ("a", "b", "c")
    for some, their_labels in ((data.images, data.labels), (data.test_images, data.test_labels)):
        numbers = some.take(torch.arange(len(some)))[:, 0, 0, 0].mul(255).round().long().numpy()
        assert labels[numbers].tolist() == their_labels.tolist()  # each label is of its image
        assert np.array_equal(some.raw(np.arange(len(some)))[:, 0], images[numbers])
    assert (data.labels[:-1] > data.labels[1:]).sum() > 10  # the classes do not follow each other


@pytest.mark.parametrize("name", NAMES)
def test_a_fifth_of_each_class_of_a_sample_is_held_out(name: str) -> None:
    card = DATASETS[name]
    if card.where() is None:
        pytest.skip(f"this machine lacks {name}.npz: set DFAL_DATA to a folder that holds it")
    data = card.load()
    tests = data.test_labels.bincount()
    assert torch.equal(tests, (0.2 * (data.labels.bincount() + tests)).round().long())
