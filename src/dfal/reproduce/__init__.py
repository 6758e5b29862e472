"""The paper's tables and figures again. One file each: claim, trials, how it is judged, the paper's
numbers beside ours."""

from types import ModuleType

from dfal.analysis.tables import Table, Verdict
from dfal.reproduce import figure2, figure3, paper, table1, table2, table3, table4
from dfal.reproduce.presets import PRESETS, Preset, preset
from dfal.reproduce.ranking import ranking
from dfal.reproduce.stored_results import StoredResults, read_results

__all__ = [
    "ALL",
    "PRESETS",
    "UNDECIDED",
    "Preset",
    "StoredResults",
    "figure3",
    "paper",
    "preset",
    "ranking",
    "read_results",
    "tables",
    "usual_data",
    "verdicts",
]

ALL: dict[str, ModuleType] = {
    "table1": table1,
    "table2": table2,
    "table3": table3,
    "table4": table4,
    "figure2": figure2,
    "figure3": figure3,
}
"""By the paper's names. Each has `stages`: what to run, one after the other; and `tables` and
`verdicts` of what was found."""


UNDECIDED = (
    "At 5 %, paired over seeds; differences in points of accuracy with their 95 % intervals."
    " Undecided: too few seeds, or not run."
)
"""To be said below verdicts."""

FIXED = ("table3", "table4", "figure3")
"""What is about the strategies that the paper names, and no others."""


def usual_data(what: str) -> dict[str, str]:
    """The data set, where a table or figure of the paper has another than its preset."""
    return {"dataset": figure3.DATASET} if ALL[what] is figure3 else {}


def tables(found: StoredResults) -> list[Table]:
    """Every table that a store has something for."""
    if not found.reproduced:
        return []
    modules = (table1, table2, table3, table4, figure3)
    return [table for module in modules for table in module.tables(found) if table.rows]


def verdicts(found: StoredResults) -> list[Verdict]:
    """What the store says of each claim that it has something for."""
    if not found.reproduced:
        return []
    modules = (figure2, table2, table3, table4)
    return [verdict for module in modules for verdict in module.verdicts(found)]
