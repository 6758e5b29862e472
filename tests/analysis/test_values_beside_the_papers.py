"""Cells and tables of values beside the paper's, and answers to claims, by hand."""

import dataclasses
import math

import numpy as np
import pytest

from dfal.analysis.tables import (
    Cell,
    accuracy,
    all_of,
    needed_cell,
    positive,
    table,
    to_decide,
)
from dfal.reproduce.stored_results import StoredResults
from dfal.stats.significance import seeds_needed


def test_a_cell_is_ours_beside_the_papers() -> None:
    values = np.array([0.97, 0.98, 0.99])
    cell = accuracy(values, 0.95)
    assert (cell.ours, cell.spread, cell.paper, cell.above) == ("98.00", "± 2.48", "95.00", True)
    assert cell.p == pytest.approx(0.0351, abs=1e-3), "t of 3 √3 with two degrees of freedom"
    assert cell.differs == 1
    assert accuracy(values, 0.98).differs == 0
    assert accuracy(values, 1.2).differs == -1
    assert accuracy(None, 0.95) == Cell(paper="95.00")
    assert accuracy(values[:1], 0.95).spread == ""
    assert accuracy(values[:1], 0.5).differs == 0, "one seed decides nothing"


def test_a_table_corrects_its_p_values_and_drops_empty_rows() -> None:
    made = table(
        "t",
        "t",
        "",
        ["a", "b"],
        [("x", [Cell("1", p=0.03), Cell("2", p=0.01)]), ("empty", [Cell(), Cell()])],
    )
    assert [name for name, _ in made.rows] == ["x"]
    assert [cell.p for cell in made.rows[0][1]] == pytest.approx([0.03, 0.02])


UP, DOWN, NEITHER = (
    np.array([0.10, 0.11, 0.12]),
    np.array([-0.10, -0.11, -0.12]),
    np.array([-0.2, 0.0, 0.21]),
)


def test_a_claim_holds_does_not_or_is_undecided() -> None:
    assert positive([UP]) == "reproduced"
    assert positive([DOWN]) == "not reproduced"
    assert positive([NEITHER]) == "undecided"
    assert positive([UP, NEITHER]) == "undecided"
    assert positive([UP, NEITHER, DOWN]) == "not reproduced"
    assert positive([UP[:1]]) == "undecided", "one seed decides nothing"
    assert positive([]) == all_of([]) == "undecided"
    barely = np.array([0.1, 0.2, 0.3, 0.12])
    assert positive([barely]) == "reproduced"
    assert positive([barely] * 5) == "undecided", "five tests are corrected for"


def test_an_undecided_claim_says_how_many_seeds_would_decide() -> None:
    small = np.array([-0.05, 0.1, 0.2])
    seeds = f"{seeds_needed(small):.0f}"
    said = f"; about {seeds} seeds would decide it, if the differences stay as they are"
    assert to_decide([small]) == to_decide([UP, small]) == said
    larger = to_decide([small, np.array([-0.1, 0.1, 0.2])])
    assert larger == said.replace("about 20 ", "about 44 "), "the largest number decides"
    assert to_decide([UP]) == to_decide([UP[:1]]) == to_decide([]) == ""
    assert "; more than 1,000 seeds" in to_decide([small, NEITHER])


def test_infinite_and_missing_numbers_have_words(paper_results: StoredResults) -> None:
    (study,) = paper_results.main
    one = dataclasses.replace(study.curves[0], accuracy=study.curves[0].accuracy[:1])
    assert needed_cell(one, 0.78, "1210") == Cell("20", "", "1210")
    assert needed_cell(one, 2.0).ours == "> 30"
    assert math.isnan(Cell().p)
