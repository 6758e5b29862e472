"""Table 2, by hand."""

import dataclasses

import numpy as np
import pytest

from dfal import reproduce
from dfal.analysis.tables import (
    Cell,
)
from dfal.experiments.store import Store
from dfal.reproduce import table2
from dfal.reproduce.stored_results import StoredResults, curve_named
from paper_store import at, cells, write


def test_table_2_is_by_hand(paper_results: StoredResults) -> None:
    (made,) = table2.tables(paper_results)
    inside = cells(made)
    assert made.head[0] == "annotations to the paper's 98.54 %"
    assert made.head[2] == "annotations to our 94.50 %"
    assert inside["dfal", made.head[0]] == Cell("> 30", "", "1210")
    assert (inside["dfal", made.head[2]].ours, inside["dfal", made.head[2]].paper) == (
        "30",
        "",
    ), "theirs is for their target"
    assert inside["ceal", made.head[0]] == Cell(paper="≥ 6000"), (
        "what we did not run stands there, too"
    )
    assert inside["ceal", made.head[2]] == Cell()
    savings = {one.claim.split(" for ")[0]: one for one in table2.verdicts(paper_results)}
    assert savings["DFAL needs fewer annotations than core-set"].answer == "not reproduced", (
        "both need 30, whoever is drawn"
    )
    assert savings["DFAL needs fewer annotations than random"].answer == "not reproduced", (
        "30 is also where it ends"
    )


def test_table_2_takes_each_strategy_as_far_as_it_went(paper_store: Store) -> None:
    preset = reproduce.preset("paper").changed({"annotations": 40, "dataset": "mnist", "seeds": 3})
    for trial in preset.trials(["core-set"]):
        accuracies = zip((10, 20, 30, 40), (0.6, 0.7, 0.8, 0.96), [10, 10, 10, 0], strict=True)
        write(
            paper_store,
            trial,
            [
                at(place, budget, value, more)
                for place, (budget, value, more) in enumerate(accuracies)
            ],
        )
    found = reproduce.read_results(paper_store)
    (made,) = table2.tables(found)
    inside = cells(made)
    assert inside["dfal", made.head[2]].ours == "30"
    assert inside["core-set", made.head[2]].ours == "40"
    assert ("random", made.head[2]) not in inside, "which nobody asked to go on"
    (verdict,) = table2.verdicts(found)
    assert verdict.numbers == "dfal 30, core-set 40: 10 fewer [0, 10]", (
        "some draws of DFAL's seeds are not there by 30"
    )
    other = dataclasses.replace(
        preset, trial=dataclasses.replace(preset.trial, annotations=50, batch=20)
    )
    write(
        paper_store,
        other.trials(["core-set"])[0],
        [at(0, 10, 0.5, 20), at(1, 30, 0.6, 20), at(2, 50, 0.97, 0)],
    )
    (made,) = table2.tables(reproduce.read_results(paper_store))
    assert "dfal" not in {name for name, cells in made.rows if any(cell.ours for cell in cells)}, (
        "n_query differs"
    )


def test_table_2_also_counts_by_running_maxima_as_the_paper_does(
    paper_results: StoredResults, monkeypatch: pytest.MonkeyPatch
) -> None:
    (study,) = paper_results.main
    up_and_down = np.array([[0.95, 0.5, 0.5], [0.5, 0.95, 0.5], [0.5, 0.5, 0.95]])
    changed = dataclasses.replace(
        study, curves=(dataclasses.replace(study.curves[0], name="dfal", accuracy=up_and_down),)
    )
    monkeypatch.setattr(table2, "_longest", lambda _: [changed])
    (made,) = table2.tables(paper_results)
    inside = cells(made)
    assert inside["dfal", made.head[2]].ours == "> 30"
    assert inside["dfal, running maximum", made.head[2]].ours == "30"
    assert inside["dfal, running maximum", made.head[0]].paper == "1210"


def test_savings_are_judged_by_their_interval(paper_results: StoredResults) -> None:
    (study,) = paper_results.main
    ours, theirs = curve_named(study, "dfal"), curve_named(study, "core-set")
    assert ours is not None
    assert theirs is not None
    early = table2.savings(study, ours, theirs, 0.78)
    assert early.answer == "reproduced"
    assert "dfal 20, core-set 30: 10 fewer [10, 10]" in early.numbers
    assert table2.savings(study, theirs, ours, 0.78).answer == "not reproduced"
    never = table2.savings(study, ours, theirs, 0.999)
    assert (never.answer, never.numbers) == (
        "undecided",
        "dfal > 30, core-set > 30: neither reached it",
    )
