"""docs/how-dfal-works.md: its figures are those of the script, and what it says of them is true."""

import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import dfal

DOCS = Path(__file__).parents[2] / "docs"
PAGE = DOCS / "how-dfal-works.md"


@pytest.fixture(scope="module")
def script() -> Iterator[Any]:
    """The module that measures, which imports what lies beside it."""
    sys.path.insert(0, str(DOCS))
    try:
        yield importlib.import_module("how_measured")
    finally:
        sys.path.remove(str(DOCS))


@pytest.fixture(scope="module")
def state(script: Any) -> Any:
    return script.Plane.start(300, 3, script.SEED)


def figures(name: str) -> dict[str, float]:
    """Return the cells of a table of the page, as `row: column`."""
    block = PAGE.read_text().split(f"<!-- measured: {name} -->\n")[1].split("<!-- end -->")[0]
    head, _, *rows = (
        [c.strip() for c in line.strip("|").split("|")] for line in block.splitlines()
    )
    return {
        f"{row[0]}: {column}": float(cell)
        for row in rows
        for column, cell in zip(head[1:], row[1:], strict=True)
    }


def test_the_distances_are_those_of_the_page(script: Any, state: Any) -> None:
    assert script.measured_distances(state) == pytest.approx(figures("distances"), rel=0.1)


@pytest.mark.slow
def test_the_accuracies_are_those_of_the_page(script: Any) -> None:
    assert script.measured_learning() == pytest.approx(figures("learning"), abs=1)


def test_the_accuracy_of_one_draw_is_measured_for_every_strategy(
    script: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["plane"], "TRAINING", dfal.Training(epochs=2))
    found = script.learning(1)
    assert {cell.partition(": ")[0] for cell in figures("learning")} == set(found)
    assert all(len(values) == 1 and 0 <= values[0] <= 100 for values in found.values())


def test_no_estimate_is_below_the_true_distance(script: Any, state: Any) -> None:
    x = state.x[state.pool.unlabelled]
    true, _ = script.Boundary.of(state.model, 800).nearest(x)
    other, _ = script.nearest_of_another_class(state, x)
    estimate = 1.02 * dfal.DeepFool()(state.model, x).distance.double().numpy()
    assert (script.classes_of(state.model, state.x[state.pool.labelled])).equal(
        state.y[state.pool.labelled]
    )
    assert (other >= true - 0.01).all()
    assert (estimate >= true - 0.01).all()


def test_the_true_distance_is_that_of_a_line(script: Any) -> None:
    model = nn.Linear(2, 3)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]))
        model.bias.copy_(torch.tensor([0.0, 0.3, -100.0]))
    x = torch.tensor([[0.5, 0.1], [-0.2, 0.4]])
    distance, place = script.Boundary.of(model, 50).nearest(x)
    np.testing.assert_allclose(distance, [0.1 / np.sqrt(2), 0.9 / np.sqrt(2)], atol=1e-6)
    np.testing.assert_allclose(place[:, 0] - place[:, 1], 0.3, atol=1e-6)


def test_the_true_distance_ends_where_the_boundary_does(script: Any) -> None:
    line = np.array([[0.0, 0.0], [1.0, 0.0]])
    boundary = script.Boundary(np.zeros(1), np.zeros(1), np.zeros((1, 1)), [line])
    distance, place = boundary.nearest(torch.tensor([[3.0, 0.0], [0.5, 2.0], [-3.0, 4.0]]))
    np.testing.assert_allclose(distance, [2.0, 2.0, 5.0])
    np.testing.assert_allclose(place, [[1.0, 0.0], [0.5, 0.0], [0.0, 0.0]])


def test_the_point_with_the_most_steps_takes_several(script: Any, state: Any) -> None:
    steps = script.longest_trace(script.after_queries(state, 2))
    assert len(steps) >= 3


def test_changes_of_digits_transfer_and_noise_does_not(script: Any) -> None:
    data, networks = script.digits(100, 8)
    x = data.test_images.take(torch.arange(0, 1000, 16))
    changed = script.measured_transfer(script.transfer(networks, x))
    assert set(changed) == set(figures("transfer"))
    assert changed["LeNet5 itself: 1.02 distances"] > 95
    noise = changed["LeNet5 itself, random noise: 4 distances"]
    assert changed["LeNet5 of another seed: 4 distances"] > noise + 10
    lengths = script.measured_digit(script.one_digit(networks["LeNet5 itself"], x[0]))
    assert set(lengths) == set(figures("digit"))
    assert lengths["DeepFool: ‖r‖₂"] < lengths["FGSM: ‖r‖₂"]


def test_pictures_have_a_title_a_description_and_colours_for_a_dark_screen() -> None:
    shown = set(re.findall(r"pictures/(how-[\w-]+)\.svg", PAGE.read_text()))
    assert shown == {path.stem for path in (DOCS / "pictures").glob("how-*.svg")}
    for name in shown:
        text = (DOCS / "pictures" / f"{name}.svg").read_text()
        assert re.search(r"<title>[^<]{10,}</title>\s*<desc>[^<]{40,}</desc>", text)
        assert "prefers-color-scheme:dark" in text
        assert not re.search(r"#1c1f23(?!;|})", text.split("</style>")[1]), name
