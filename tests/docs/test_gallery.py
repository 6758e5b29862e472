"""docs/gallery.md has an entry and a picture for every registered strategy."""

import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dfal.strategies import STRATEGIES

DOCS = Path(__file__).parents[2] / "docs"
PAGE = DOCS / "gallery.md"


@pytest.fixture(scope="module")
def script() -> Iterator[Any]:
    sys.path.insert(0, str(DOCS))
    try:
        yield importlib.import_module("gallery")
    finally:
        sys.path.remove(str(DOCS))


@pytest.fixture(scope="module")
def state(script: Any) -> Any:
    return script.start()


def test_the_page_is_that_of_the_registry(script: Any) -> None:
    assert PAGE.read_text() == script.page(), "python docs/gallery.py"


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_has_an_entry_and_a_picture(name: str) -> None:
    entry = PAGE.read_text().split(f"\n### {name}\n")[1].split("\n### ")[0]
    (picture,) = re.findall(r"\]\((pictures/strategies/.*\.svg)\)", entry)
    assert (DOCS / picture).exists()
    for row in ("Selects", "Use it when", "Cost", "Settings", "Source"):
        assert re.search(rf"^\| {row} \| .+ \|$", entry, re.MULTILINE), row


def test_a_strategy_without_an_entry_is_named(script: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    group = script.GALLERY["Near the decision boundary"]
    rest = {name: entry for name, entry in group.items() if name != "dfal"}
    monkeypatch.setitem(script.GALLERY, "Near the decision boundary", rest)
    with pytest.raises(SystemExit, match=r"add to GALLERY in docs/gallery.py: dfal$"):
        script.page()


@pytest.mark.parametrize(
    "name", ["dfal-batch", "random", "margin", "bald", "core-set", "badge", "typi-clust"]
)
def test_a_picture_shows_what_the_strategy_selects(script: Any, state: Any, name: str) -> None:
    text = (DOCS / "pictures" / "strategies" / f"{name}.svg").read_text()
    order = re.search(r"Selected: ([\d, ]+)\.</desc>", text)
    assert order is not None
    drawn = [int(index) for index in order[1].split(", ")]
    selected = script.query(state, name).indices.tolist()
    # Another processor rounds otherwise, which may exchange a point or two.
    assert len(set(drawn) & set(selected)) >= script.QUERIED - 2


def test_numbers_of_near_points_are_drawn_apart(script: Any) -> None:
    points = np.concatenate([np.zeros((5, 2)), np.ones((1, 2))])
    places = script.apart(points)
    gaps = np.linalg.norm(places[:, None] - places[None], axis=-1) + np.eye(6)
    assert gaps.min() > 0.18
    np.testing.assert_allclose(places[5], 1, atol=0.01)
