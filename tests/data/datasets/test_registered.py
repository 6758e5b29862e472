"""What every registered data set must be."""

import subprocess
import sys
from pathlib import Path

import pytest

import dfal
from dfal.data.datasets import DATASETS, Card

LIGHT = """
import sys, types
package = types.ModuleType("dfal")  # without what dfal itself imports
package.__path__ = [sys.argv[1]]
sys.modules["dfal"] = package
from dfal.data.datasets import DATASETS
print(*DATASETS)
print([DATASETS.about(name) for name in DATASETS])
print([name for name in ("numpy", "torch", "PIL") if name in sys.modules])
"""


def test_names_and_help_are_known_without_torch() -> None:
    path = str(Path(dfal.__file__).parent)
    command = [sys.executable, "-c", LIGHT, path]
    names, _, heavy = subprocess.run(
        command, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert (names.split(), heavy) == (list(DATASETS), "[]")


@pytest.mark.parametrize("name", DATASETS)
def test_its_card_is_whole(name: str) -> None:
    card, about = DATASETS[name], DATASETS.about(name)
    assert isinstance(card, Card)
    assert card.name == name
    assert about
    assert not about.endswith(".")
    assert min(card.pool, card.test, *card.image) > 0
    assert len(set(card.classes)) == len(card.classes) >= 2
    assert card.origin
    assert card.licence
    assert card.download is not None or card.get, "how does one get it?"


@pytest.mark.parametrize("name", DATASETS)
def test_it_is_what_its_card_says(name: str) -> None:
    card = DATASETS[name]
    if (where := card.where()) is None:
        pytest.skip(f"this machine lacks the data set {name}: put it into DFAL_DATA")
    data = card.load()
    assert where.exists()
    assert data.images.shape == data.test_images.shape == card.image
    assert (len(data.images), len(data.labels)) == (card.pool, card.pool)
    assert (len(data.test_images), len(data.test_labels)) == (card.test, card.test)
    assert data.classes == card.classes
    for labels in (data.labels, data.test_labels):
        assert labels.unique().tolist() == list(range(len(card.classes)))
