from pathlib import Path

import numpy as np
import pytest
import torch

from dfal.data import datasets
from dfal.data.datasets import samples
from dfal.errors import DfalError

NAMES = [card.name for card in samples.CARDS]


@pytest.mark.parametrize("name", NAMES)
def test_a_sample_that_is_not_there_says_what_to_do(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DFAL_DATA", str(tmp_path))
    assert datasets.CARDS[name].where() is None
    with pytest.raises(
        DfalError, match=rf"{name} is not here: set DFAL_DATA to a folder that holds {name}\.npz"
    ):
        datasets.CARDS[name].load()
    monkeypatch.delenv("DFAL_DATA")
    with pytest.raises(DfalError, match="set DFAL_DATA"):
        datasets.CARDS[name].load()


def test_a_sample_never_stands_for_the_full_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in NAMES:
        (tmp_path / f"{name}.npz").touch()
    monkeypatch.setenv("DFAL_DATA", str(tmp_path))
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda name: str(tmp_path / "cache" / name))
    assert all(datasets.CARDS[name].where() for name in NAMES)
    assert datasets.CARDS["quick-draw"].where() is None
    assert datasets.CARDS["shoe-bag"].where() is None


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
    one, again = samples._load("quick-draw-4"), samples._load("quick-draw-4")
    assert one.fingerprint == again.fingerprint
    assert one.labels.bincount().tolist() == [40, 16, 24]
    assert one.test_labels.bincount().tolist() == [10, 4, 6]
    assert one.classes == ("a", "b", "c")
    for part, answers in ((one.images, one.labels), (one.test_images, one.test_labels)):
        numbers = part.take(torch.arange(len(part)))[:, 0, 0, 0].mul(255).round().long()
        assert (
            labels[numbers.numpy()].tolist() == answers.tolist()
        )  # each label belongs to its image
        assert np.array_equal(part.raw(np.arange(len(part)))[:, 0], images[numbers.numpy()])
    assert (one.labels[:-1] > one.labels[1:]).sum() > 10  # and the classes do not follow each other


@pytest.mark.parametrize("name", NAMES)
def test_the_card_of_a_sample_says_what_it_holds(name: str) -> None:
    card = datasets.CARDS[name]
    if card.where() is None:
        pytest.skip(f"this machine lacks {name}.npz: set DFAL_DATA to a folder that holds it")
    data = card.load()
    assert (len(data.images), len(data.test_images), data.images.shape) == (
        card.pool,
        card.test,
        card.image,
    )
    assert data.classes == card.classes
    tests = data.test_labels.bincount()
    assert torch.equal(tests, (0.2 * (data.labels.bincount() + tests)).round().long())
