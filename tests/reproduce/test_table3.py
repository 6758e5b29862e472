"""Table 3, by hand."""

import numpy as np

import dfal
from dfal import reproduce
from dfal.analysis.tables import (
    Cell,
)
from dfal.experiments.store import Record, Store
from dfal.reproduce import table3
from paper_store import NONE, cells, write


def test_table_3_is_by_hand(paper_store: Store) -> None:
    preset = reproduce.preset("paper")
    (questions,) = table3.stages(preset)
    seconds = {
        "dfal": [0.5, 0.6, 0.7],
        "core-set-robust": [0.2, 0.1, 0.3],
        "core-set": [0.55, 0.9, 0.8],
    }
    for question, times in zip(questions, seconds.values(), strict=True):
        rows = [
            Record(i, dfal.Query.nothing(), NONE, NONE, NONE, {"picks": 10}, {"select": one})
            for i, one in enumerate(times)
        ]
        write(paper_store, question, rows)
    found = reproduce.read_results(paper_store)
    (made,) = table3.tables(found)
    inside = cells(made)
    assert inside["dfal", "seconds"] == Cell("0.600", "0.500 to 0.700", "126.54")
    assert inside["core-set-robust", "times DFAL's"] == Cell("0.33", "", "7.05")
    robust, greedy = table3.verdicts(found)
    assert (robust.answer, greedy.answer) == ("not reproduced", "undecided")
    assert "takes 0.33 times DFAL's 0.600 s; the paper: 7.05 times 126.54 s" in robust.numbers
    assert (
        table3.faster("", "core-set", np.array([1.0, 1.1]), np.array([2.0, 2.1])).answer
        == "reproduced"
    )
