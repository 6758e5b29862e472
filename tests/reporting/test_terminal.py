"""Tables in a terminal of any width: no number is broken, no heading cut."""

import dataclasses
import io

import numpy as np
import pytest
from rich.console import Console

from dfal.analysis import comparison
from dfal.analysis.learning_curves import Curve, Study
from dfal.analysis.tables import Verdict, signed
from dfal.experiments.trial import Trial
from dfal.reporting import latex, latex_csv, terminal
from dfal.strategies import named


def study(*names: str, seeds: int = 2, rounds: int = 10) -> Study:
    budgets = np.arange(1, rounds + 1) * 10
    curves = []
    for place, name in enumerate(names):
        trials = tuple(
            Trial(strategy=named(name), seed=seed, annotations=10 * rounds) for seed in range(seeds)
        )
        values = (
            0.5 + np.linspace(0, 0.4, rounds) + 0.01 * np.arange(seeds)[:, None] + 0.001 * place
        )
        curves.append(
            Curve(name, trials, ((),) * seeds, budgets, budgets.astype(float), values, True)
        )
    return Study(curves[0].trials[0], tuple(curves))


def printed(found: Study, width: int, *at: int) -> list[str]:
    file = io.StringIO()
    console = Console(width=width, file=file)
    for one in terminal.study_tables("mnist-5k, lenet5", found, at, width):
        console.print(one)
    return file.getvalue().splitlines()


FIVE = ("dfal", "uncertainty", "random", "least-confidence", "core-set")


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("names", [FIVE[:2], FIVE, (*FIVE, "egl", "bald", "ceal", "dfal-no-twins")])
def test_every_width_has_room(width: int, names: tuple[str, ...]) -> None:
    lines = printed(study(*names), width)
    assert max(map(len, lines)) <= width
    rows = [line for line in lines if line.startswith("│")]
    assert not any(
        cell.strip().endswith("±") or "…" in cell for line in rows for cell in line.split("│")
    ), "in one line"
    text = "\n".join(lines)
    for name in names:
        assert f" {name} " in text, "in one piece"


def test_budgets_that_are_named_are_all_there_in_parts() -> None:
    budgets = tuple(range(10, 110, 10))
    lines = printed(study(*FIVE), 60, *budgets)
    assert max(map(len, lines)) <= 60
    heads = " ".join(line for line in lines if line.startswith("┃")).split()
    assert set(map(str, budgets)) < set(heads)


def test_parts_fit_a_terminal_of_any_width() -> None:
    """A column more or less decides: 40 holds the name and one number, 140 nearly all."""
    long_run = study(*FIVE[:2], "egl-last-layer", *FIVE[2:], rounds=40)
    for width in range(40, 141):
        grid = terminal._Grid.of(comparison.accuracies("mnist-5k", long_run, long_run.budgets(12)))
        for part in grid.parts(width):
            assert terminal._width(part.table()) <= width or len(part.head) == 1, width


RANDOM = "labels to reach random sampling's final accuracy"


def test_each_column_says_what_its_interval_is() -> None:
    made, differences = comparison.tables("mnist-5k, lenet5", study("dfal", "random"), [50, 100])
    assert "mean ± standard deviation over 2 seeds" in made.title
    assert made.head == ("50", "100", "labelled data", "AULC ± 95 % CI", RANDOM)
    assert [cell.interval for cell in made.rows[0][1]] == ["standard deviation"] * 2 + [
        "",
        "95 % t",
        "",
    ]
    accuracy = made.rows[0][1][1]
    assert accuracy.low + accuracy.high == pytest.approx(2 * accuracy.value)
    assert differences.head == ("compared with", "difference ± 95 % CI", "p")
    assert differences.rows[0][1][1].ours == "−0.10"
    (alone,) = comparison.tables("", study("dfal", "random", seeds=1), [50])
    assert alone.head == ("50", "labelled data", "AULC", RANDOM)


def test_the_labels_to_reach_an_accuracy_are_those_of_the_mean_curve() -> None:
    """Accuracies rise by 0.4 / 9 every ten labels from 0.50 and 0.51; bootstrap draws are means."""
    made, _ = comparison.tables(
        "", dataclasses.replace(study("dfal", "random"), targets=(0.685, 0.95)), [50]
    )
    assert made.head[-2:] == ("labels to reach 68.5 %", "labels to reach 95 %")
    reached, never = made.rows[0][1][-2:]
    assert (reached.ours, reached.spread) == ("60", "[50, 60]")
    assert (reached.low, reached.high, reached.interval) == (50, 60, "95 % bootstrap")
    assert (never.ours, never.spread) == ("> 100", "")
    assert "[ ]: 95 % bootstrap over seeds" in made.caption


def test_the_mean_accuracy_over_a_curve_is_by_trapezoids_and_says_so() -> None:
    """Budgets that are not evenly spaced tell it from a mean over the budgets."""
    plain = study("dfal", "random", seeds=1)
    budgets, accuracy = np.array([10, 20, 100]), np.array([[0.2, 0.6, 1.0]])
    curves = tuple(
        dataclasses.replace(
            one, annotations=budgets, labelled_data=budgets.astype(float), accuracy=accuracy
        )
        for one in plain.curves
    )
    (made,) = comparison.tables("", Study(plain.settings, curves), [10])
    place = made.head.index("AULC")
    assert made.rows[0][1][place].ours == "75.56", "(10 · 0.4 + 80 · 0.8) / 90, not the mean, 60"
    assert (
        "AULC: mean accuracy over the curve, the area under it by trapezoids divided by its width"
        in made.caption
    )
    assert "mean accuracy over the budgets" not in made.caption


def test_a_row_for_the_twins_comes_after_dfal_beside_random() -> None:
    """Also in the CSV, where a row is known by its name."""
    _, differences = comparison.tables("", study("dfal", "random", "dfal-no-twins"), [50])
    assert [(name, cells[0].ours) for name, cells in differences.rows] == [
        ("dfal", "random"),
        ("dfal-no-twins", "random"),
        ("dfal", "dfal-no-twins"),
    ]
    written = [line.split(",")[:2] for line in latex_csv.as_csv(differences).splitlines()]
    assert ["dfal − dfal-no-twins", "p"] in written
    assert len({tuple(key) for key in written}) == len(written)
    assert "by trapezoids" in latex.latex(differences, "differences")


def test_words_stand_left_and_numbers_right() -> None:
    lines = printed(study("dfal", "random"), 80)
    assert any(line.startswith("│                     10 │") for line in lines)
    assert any(line.startswith("│ dfal     │ random   │") for line in lines)


def test_zero_has_no_sign_and_minus_is_a_minus() -> None:
    found = [signed(value) for value in (-0.001, 0.0, -1.5, 2.0)]
    assert found == ["0.00", "0.00", "−1.50", "+2.00"]
    level = study("dfal", "random")
    curves = tuple(
        Curve(**vars(one) | {"accuracy": level.curves[0].accuracy}) for one in level.curves
    )
    _, differences = comparison.tables("", Study(level.settings, curves), [50])
    assert differences.rows[0][1][1].ours == "0.00"


def test_a_setting_of_claims_is_said_once() -> None:
    claims = [Verdict(claim, "undecided", "", "mnist, vgg8") for claim in ("one", "two")]
    made = terminal.verdict_tables([*claims, Verdict("three", "reproduced", "", "mnist, lenet5")])
    assert [table.title for table in made] == [
        "The paper's claims: mnist, vgg8",
        "The paper's claims: mnist, lenet5",
    ]
    assert [table.row_count for table in made] == [2, 1]
