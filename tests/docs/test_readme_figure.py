"""README.md's figures are those of the committed results."""

import json
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def figure() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "docs" / "readme_figure.py"))


def test_labels_to_reach_random_samplings_accuracy(figure: dict[str, Any]) -> None:
    curves = figure["curves"]()
    assert {len(curve.seeds) for curve in curves.values()} == {5}
    labels = curves["dfal"].labels_to_reach(curves["random"].mean[-1])
    assert f"**{labels} labels instead of 1,000**" in (ROOT / "README.md").read_text()


def test_a_curve_reaches_a_target_where_its_mean_does(figure: dict[str, Any]) -> None:
    curve = figure["Curve"](np.array([20, 40, 60]), np.array([[90.0, 97, 99], [92, 98, 98]]))
    assert [curve.labels_to_reach(target) for target in (91, 91.1, 97.5, 98.5)] == [20, 40, 40, 60]


def test_the_figure_shows_each_strategys_labels(figure: dict[str, Any]) -> None:
    curves = figure["curves"]()
    target = curves["random"].mean[-1]
    picture = figure["FIGURE"].read_text()
    for name, title in figure["NAMES"].items():
        assert f">{title}<" in picture
        labels = 1000 if name == "random" else curves[name].labels_to_reach(target)
        assert f">{labels}<" in picture


def test_the_ratio_of_deepfool_is_that_of_the_benchmark() -> None:
    stored = json.loads((ROOT / "benchmarks/results/deepfool-lenet5-800.json").read_text())
    ratio = stored["speed"]["Foolbox"]["times_as_long"]
    assert f"**{ratio:.1f} times as fast as Foolbox**" in (ROOT / "README.md").read_text()
