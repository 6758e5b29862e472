"""Charts: everything in them, in the page's colours."""

import re
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

import dfal
from dfal.analysis.learning_curves import Curve, Study
from dfal.experiments.trial import Trial
from dfal.reporting import figures
from dfal.reproduce import paper
from dfal.reproduce.figure3 import Series
from dfal.stats.significance import ranks


@pytest.fixture
def study() -> Study:
    """Two strategies, two seeds."""
    budgets = np.array([10, 20, 30])
    names: dict[str, dfal.Strategy] = {"dfal": dfal.DFAL(), "random": dfal.Random()}
    curves = []
    for name, strategy in names.items():
        trials = tuple(
            Trial(dataset="mnist", strategy=strategy, seed=seed, annotations=30)
            for seed in range(2)
        )
        values = np.array([[0.3, 0.8, 0.9], [0.3, 0.7, 0.95]])
        curves.append(Curve(name, trials, ((), ()), budgets, budgets.astype(float), values, True))
    return Study(curves[0].trials[0], tuple(curves))


def texts(svg: str) -> list[str]:
    return re.findall(r">([^<>\n]+)</text>", svg)


def test_figure_2_has_a_panel_a_strategy_over_the_papers_curve(study: Study) -> None:
    svg = figures.paper_curves(study, paper.curves("mnist", "lenet5"), np.array([0.99, 0.98])).svg
    assert {"dfal", "random", "our full training set"} <= set(texts(svg))
    alone = figures.paper_curves(study, {}, None).svg
    assert "our full training set" not in texts(alone)
    assert len(svg) > len(alone), "the paper's curves are drawn"


def test_colours_are_the_pages(study: Study) -> None:
    for chart in (
        figures.curves(study),
        figures.differences(study.comparisons),
        figures.paper_curves(study, {}, None),
    ):
        svg = chart.svg
        assert "var(--ink)" in svg
        assert not re.search("#1c1f23|#5b636e|#e3e6ea|#ffffff|#000000", svg), (
            "these would not follow a dark page"
        )
        assert "<metadata" not in svg or "date" not in svg
    assert figures.css(figures.INK) == "var(--ink)"
    assert figures.css("#0072b2") == "var(--colour-1)"
    assert "fill-opacity: var(--band)" in figures.curves(study).svg, (
        "a dark page shows more of a band"
    )
    assert not re.search("#0072b2|#7f7f7f|fill-opacity: 0", figures.curves(study).svg)


def test_the_same_study_is_the_same_picture(study: Study) -> None:
    assert figures.curves(study).svg == figures.curves(study).svg


def test_figure_3_names_its_lines() -> None:
    at, values = np.array([200, 500, 1000]), np.array([[0.9, 0.95, 0.97], [0.91, 0.95, 0.98]])
    lines = [
        Series("lenet5 dfal", at, values),
        Series("dfal", at, values),
        Series("random", at, values - 0.1),
    ]
    svg = figures.transfers(lines, {"dfal": ([200.0], [0.96])}).svg
    assert {"lenet5 dfal", "dfal", "random"} <= set(texts(svg))


def test_axes_name_budgets_that_were_measured(study: Study) -> None:
    shown = texts(figures.curves(study).svg)
    assert shown[: shown.index("annotations")] == ["10", "20", "30"]
    many = np.arange(10, 1010, 10)
    figures._tick_budgets(axes := Figure().add_subplot(), [many])
    assert axes.get_xticks().tolist() == list(range(100, 1100, 100)), "counted from the last"


def test_figure_2_ends_where_ours_does(study: Study) -> None:
    assert "1000" not in texts(
        figures.paper_curves(study, paper.curves("mnist", "lenet5"), None).svg
    )


def test_cliques_by_hand() -> None:
    mean = np.array([1.0, 1.5, 3.0, 3.4, 6.0])
    assert figures.cliques(mean, 0.6) == [(0, 1), (2, 3)]
    assert figures.cliques(mean, 2.0) == [(0, 2), (1, 3)]
    assert figures.cliques(mean, 0.1) == []
    assert figures.cliques(mean, 5.0) == [(0, 4)]


def test_the_ranking_names_everyone() -> None:
    scores = np.array([[0.9, 0.8, 0.7], [0.9, 0.7, 0.8]] * 4)
    svg = figures.ranking(["a", "b", "c"], ranks(scores)).svg
    shown = texts(svg)
    assert {"a  1.00", "b  2.50", "2.50  c"} <= set(shown)
    assert any(text.startswith("critical difference 1.17") for text in shown)


def test_a_chart_is_a_file_in_its_own_colours(study: Study, tmp_path: Path) -> None:
    chart = figures.curves(study)
    page = chart.svg
    for ending, begins in (("svg", b"<?xml"), ("pdf", b"%PDF")):
        files = [tmp_path / f"{number}.{ending}" for number in range(2)]
        for file in files:
            chart.write(file)
        first, second = (file.read_bytes() for file in files)
        assert first.startswith(begins)
        assert first == second, "the same, whenever it is written"
    drawn = (tmp_path / "0.svg").read_text(encoding="utf-8")
    assert "var(--" not in drawn, "no page gives it colours"
    assert "#ffffff" in drawn
    assert "<text" not in drawn, "nor letters"
    assert chart.svg == page
