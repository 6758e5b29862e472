"""Table 1, by hand."""

import dataclasses
import math
from pathlib import Path

from dfal import reproduce
from dfal.analysis.tables import (
    Cell,
    format_seconds,
)
from dfal.experiments.store import Store
from dfal.reproduce import table1, table2
from dfal.reproduce.stored_results import StoredResults
from paper_store import at, cells, write


def test_table_1_is_by_hand(paper_results: StoredResults) -> None:
    accuracies, statistics, costs = table1.tables(paper_results)
    inside = cells(accuracies)
    assert inside["dfal", "30"].ours == "95.00"
    assert inside["full training set", "all"].ours == "95.00"
    assert inside["full training set", "all"].paper == "99.04"
    assert inside["full training set", "all"].differs == -1
    inside = cells(statistics)
    assert inside["dfal", "labels to the target"].ours == "30", "94.5 %"
    assert inside["random", "labels to the target"] == Cell("> 30")
    assert inside["random", "DFAL − this"].ours == "+19.00"
    assert float(inside["random", "seeds to detect it"].ours) <= 3
    assert inside["dfal", "running maximum"].ours == "95.00"
    assert cells(costs)["dfal", "seed 1"].ours == "7.50", "3 rounds of 2.5 s"


def test_other_data_than_the_papers_are_not_tested_against_its_numbers(tmp_path: Path) -> None:
    preset = reproduce.preset("quick").changed({"annotations": 100, "first": 100, "seeds": 2})
    with Store(tmp_path / "s.db", write=True) as store:
        for seed, trial in enumerate(preset.trials(["dfal"])):
            write(store, trial, [at(0, 100, 0.7 + 0.001 * seed, 0)])
        for seed, trial in enumerate(preset.full()):
            write(store, trial, [at(0, 4000, 0.5 + 0.001 * seed, 0)])
        found = reproduce.read_results(store)
    accuracies = table1.tables(found)[0]
    inside = cells(accuracies)
    for row, column in (("dfal", "100"), ("full training set", "all")):
        assert inside[row, column].paper
        assert math.isnan(inside[row, column].p)
    for made in (accuracies, *table2.tables(found)):
        assert "mnist-5k is not the paper's mnist" in made.caption
    assert "Coloured" not in accuracies.caption
    alone = dataclasses.replace(found, full=())
    assert table2.verdicts(alone) == [], "the paper's accuracy on other data is no target"


def test_hours_are_minutes_where_they_are_few(paper_results: StoredResults) -> None:
    costs = table1.tables(paper_results)[2]
    assert costs.head[-1] == "seconds in all"
    assert cells(costs)["dfal", "seconds in all"].ours == "22.5"
    assert [format_seconds(value) for value in (0.04, 12.34, 1234.5)] == ["0.04", "12.3", "1,234"]
