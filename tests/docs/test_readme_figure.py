"""README.md's figures are those of the committed results."""

import json
import runpy
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def figure() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "docs" / "readme_figure.py"))


def test_labels_to_reach_random_samplings_accuracy(figure: dict[str, Any]) -> None:
    seeds = figure["accuracies"]()
    assert {len(curves) for curves in seeds.values()} == {5}
    labels = figure["labels_to_reach"](seeds["dfal"].mean(0), seeds["random"].mean(0)[-1])
    assert f"**{labels} labels instead of 1,000**" in (ROOT / "README.md").read_text()


def test_the_figure_shows_each_strategys_labels(figure: dict[str, Any]) -> None:
    seeds = figure["accuracies"]()
    target = seeds["random"].mean(0)[-1]
    picture = figure["FIGURE"].read_text()
    for name, title in figure["NAMES"].items():
        labels = figure["labels_to_reach"](seeds[name].mean(0), target)
        assert f">{title}<" in picture
        assert f">{1000 if name == 'random' else labels}<" in picture


def test_the_ratio_of_deepfool_is_that_of_the_benchmark() -> None:
    stored = json.loads((ROOT / "benchmarks/results/deepfool-lenet5-800.json").read_text())
    ratio = stored["speed"]["Foolbox"]["times_as_long"]
    assert f"**{ratio:.1f} times as fast as Foolbox**" in (ROOT / "README.md").read_text()
