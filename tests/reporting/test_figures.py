"""Charts: everything in them, in the page's colours."""

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

import dfal
from dfal.analysis.learning_curves import Curve, Study
from dfal.experiments.trial import Trial
from dfal.reporting import figures, paper_figures
from dfal.reporting.chart import INK, LAYOUTS, Chart, css, tick_budgets
from dfal.reproduce import paper
from dfal.reproduce.figure3 import Series
from dfal.stats.significance import ranks


@pytest.fixture
def study() -> Study:
    """Two strategies, two seeds."""
    budgets = np.array([10, 20, 30])
    names: dict[str, dfal.Strategy] = {"dfal": dfal.DFAL(), "random": dfal.Random()}
    curves = []
    for place, (name, strategy) in enumerate(names.items()):
        trials = tuple(
            Trial(dataset="mnist", strategy=strategy, seed=seed, annotations=30)
            for seed in range(2)
        )
        values = np.array([[0.3, 0.8, 0.9], [0.3, 0.7, 0.95]]) * (1 - 0.02 * place)
        curves.append(Curve(name, trials, ((), ()), budgets, budgets.astype(float), values, True))
    return Study(curves[0].trials[0], tuple(curves))


def texts(svg: str) -> list[str]:
    return re.findall(r">([^<>\n]+)</text>", svg)


def test_figure_2_has_a_panel_a_strategy_over_the_papers_curve(study: Study) -> None:
    svg = paper_figures.paper_curves(
        study, paper.curves("mnist", "lenet5"), np.array([0.99, 0.98])
    ).svg
    assert {"dfal", "random", "our full training set"} <= set(texts(svg))
    alone = paper_figures.paper_curves(study, {}, None).svg
    assert "our full training set" not in texts(alone)
    assert len(svg) > len(alone), "the paper's curves are drawn"


def test_colours_are_the_pages(study: Study) -> None:
    for chart in (
        figures.curves(study),
        figures.differences(study.comparisons),
        paper_figures.paper_curves(study, {}, None),
    ):
        svg = chart.svg
        assert "var(--ink)" in svg
        assert not re.search("#1c1f23|#5b636e|#e3e6ea|#ffffff|#000000", svg), (
            "these would not follow a dark page"
        )
        assert "<metadata" not in svg or "date" not in svg
    assert css(INK) == "var(--ink)"
    assert css("#0072b2") == "var(--colour-1)"
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
    svg = paper_figures.transfers(lines, {"dfal": ([200.0], [0.96])}).svg
    assert {"lenet5 dfal", "dfal", "random"} <= set(texts(svg))


def test_axes_name_budgets_that_were_measured(study: Study) -> None:
    shown = texts(figures.curves(study).svg)
    assert shown[: shown.index("annotations")] == ["10", "20", "30"]
    many = np.arange(10, 1010, 10)
    tick_budgets(axes := Figure().add_subplot(), [many])
    assert axes.get_xticks().tolist() == list(range(100, 1100, 100)), "counted from the last"


def test_figure_2_ends_where_ours_does(study: Study) -> None:
    assert "1000" not in texts(
        paper_figures.paper_curves(study, paper.curves("mnist", "lenet5"), None).svg
    )


def test_cliques_by_hand() -> None:
    mean = np.array([1.0, 1.5, 3.0, 3.4, 6.0])
    assert paper_figures.cliques(mean, 0.6) == [(0, 1), (2, 3)]
    assert paper_figures.cliques(mean, 2.0) == [(0, 2), (1, 3)]
    assert paper_figures.cliques(mean, 0.1) == []
    assert paper_figures.cliques(mean, 5.0) == [(0, 4)]


def test_the_ranking_names_everyone() -> None:
    scores = np.array([[0.9, 0.8, 0.7], [0.9, 0.7, 0.8]] * 4)
    svg = paper_figures.ranking(["a", "b", "c"], ranks(scores)).svg
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


def drawn(study: Study, layout: str) -> list[Chart]:
    return [
        figures.curves(study, LAYOUTS[layout]),
        figures.differences(study.comparisons, LAYOUTS[layout]),
        paper_figures.paper_curves(study, {}, None, LAYOUTS[layout]),
        paper_figures.ranking(
            ["dfal-no-twins", "core-set", "random"], ranks(np.eye(3)), LAYOUTS[layout]
        ),
    ]


@pytest.mark.parametrize(("layout", "inches"), [("column", 3.4), ("page", 7.0)])
def test_a_figure_of_an_article_has_its_width_and_type_that_is_read(
    study: Study, layout: str, inches: float
) -> None:
    for chart in drawn(study, layout):
        assert chart.figure.get_figwidth() == inches
        written = [text for text in chart.figure.findobj(Text) if text.get_text().strip()]
        assert len(written) > 5
        assert min(float(text.get_fontsize()) for text in written) >= 7
        assert "curve-" not in chart.svg or not chart.hover
        box = chart.figure.get_tightbbox()
        assert box.x0 >= 0, "nothing is cut off"
        assert box.x1 <= inches


def test_names_stand_at_the_ends_of_curves_on_the_page_and_in_a_legend_of_an_article(
    study: Study,
) -> None:
    page, article = figures.curves(study), figures.curves(study, LAYOUTS["page"])
    assert not page.figure.legends
    assert [text.get_text() for text in article.figure.legends[0].get_texts()] == ["dfal", "random"]
    ends = [text for text in page.figure.axes[0].texts if text.get_text() in {"dfal", "random"}]
    assert len(ends) == 2
    boxes = sorted((text.get_window_extent() for text in ends), key=lambda box: box.y0)
    assert boxes[0].y1 <= boxes[1].y0 + 1, "they do not overlap"
    lines = [line for line in page.figure.axes[0].lines if len(line.get_xdata()) > 1]  # type: ignore[arg-type]
    assert len({line.get_marker() for line in lines}) == len(lines) == 2


def test_places_are_moved_apart_around_their_mean() -> None:
    assert figures.spread_out([0.5, 0.5], 0.2) == pytest.approx([0.4, 0.6])
    assert figures.spread_out([0.9, 0.1, 0.12], 0.2) == pytest.approx([0.9, 0.01, 0.21])
    assert figures.spread_out([0.3, 0.1], 0.2) == pytest.approx([0.3, 0.1])
    many = figures.spread_out([0.5, 0.51, 0.52, 0.9], 0.1)
    assert np.diff(many).min() >= 0.1 - 1e-9


def test_what_the_pointer_shows_are_the_studys_values_at_that_place(study: Study) -> None:
    svg = figures.curves(study).svg
    groups = svg.split('<g class="at">')[1:]
    assert len(groups) == 3
    assert texts(groups[2]) == [
        "30 annotations",
        "92.5 ± 3.5  dfal",
        "90.6 ± 3.5  random",
    ], "the best first"
    hit = re.findall(r'class="hit" x="([\d.]+)" y="[\d.]+" width="([\d.]+)"', svg)
    starts = [float(x) for x, _ in hit]
    ends = [float(x) + float(width) for x, width in hit]
    assert starts[1:] == pytest.approx(ends[:-1], abs=0.2), "no gap, no overlap"
    marker = re.findall(r'<use xlink:href="#\w+" x="([\d.]+)"', svg.split('"curve-0"')[2])
    line = re.findall(r'<path d="M([\d.]+) ', svg[svg.index('"hover"') :])
    assert [float(x) for x in line] == pytest.approx([float(x) for x in marker[:3]], abs=0.1)
    assert "hover" not in figures.curves(study, LAYOUTS["page"]).svg


def test_every_part_of_a_curve_can_be_switched_off(study: Study) -> None:
    svg = figures.curves(study).svg
    for number in range(2):
        assert svg.count(f'<g class="curve-{number}">') == 5, "band, line, name, leader, marker"
        assert svg.count(f'<text class="curve-{number}"') == 3
    assert 'id="curve-' not in svg


def test_charts_have_a_title_and_a_description_with_their_numbers(study: Study) -> None:
    full = np.array([0.99, 0.98])
    for chart, number in (
        (figures.curves(study), "At 30: dfal 92.5 %, random 90.6 %."),
        (figures.differences(study.comparisons), "dfal − random +1."),
        (paper_figures.paper_curves(study, {}, full), "dfal 92.5 %, random 90.6 %"),
        (paper_figures.ranking(["a", "b"], ranks(np.array([[0.9, 0.8]] * 3))), "a 1.00; b 2.00"),
    ):
        svg = chart.svg
        begin = svg[: svg.index("<desc")]
        named = re.search(r'role="img" aria-labelledby="(\S+) (\S+)"', begin)
        assert named is not None
        assert f'<title id="{named[1]}">{chart.title}</title>' in begin
        text = re.search(rf'<desc id="{named[2]}">([^<]+)</desc>', svg)
        assert text is not None
        assert number in text[1], text[1]


def test_captions_name_only_what_is_shown(study: Study) -> None:
    published = paper.curves("mnist", "lenet5")
    assert "the paper’s curve" in paper_figures.paper_curves(study, published, None).caption
    assert "paper" not in paper_figures.paper_curves(study, {}, None).caption
    assert "paper" not in " ".join(texts(paper_figures.paper_curves(study, {}, None).svg))
    assert "Bands" in figures.curves(study).caption
    one = dataclasses.replace(
        study,
        curves=tuple(
            dataclasses.replace(
                curve,
                trials=curve.trials[:1],
                records=curve.records[:1],
                accuracy=curve.accuracy[:1],
            )
            for curve in study.curves
        ),
    )
    assert "Bands" not in figures.curves(one).caption
    assert "Holm" not in figures.differences(study.comparisons).caption
    assert "Holm" in figures.differences(study.comparisons * 2).caption
    at, values = np.array([200, 500]), np.array([[0.9, 0.95], [0.91, 0.95]])
    lines = [Series("lenet5 dfal", at, values), Series("dfal", at, values)]
    assert "Dots" not in paper_figures.transfers(lines, {}).caption
    assert "Dots" in paper_figures.transfers(lines, {"dfal": ([200.0], [0.9])}).caption
