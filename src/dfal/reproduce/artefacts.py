"""All tables and figures of the paper at once: what a store has of them."""

from dfal.analysis.tables import Table, Verdict
from dfal.reproduce import figure2, figure3, table1, table2, table3, table4
from dfal.reproduce.settings import ARTEFACTS
from dfal.reproduce.stored_results import StoredResults

UNDECIDED = (
    "At 5 %, paired over seeds; differences in points of accuracy with their 95 % intervals."
    " Undecided: too few seeds, or not run."
)
"""To be said below verdicts."""


def usual_data(what: str) -> dict[str, str]:
    """Return the data set, where a table or figure of the paper has another than its preset."""
    return {"dataset": figure3.DATASET} if ARTEFACTS[what] is figure3 else {}


def tables(found: StoredResults) -> list[Table]:
    """Return every table that a store has something for."""
    if not found.reproduced:
        return []
    modules = (table1, table2, table3, table4, figure3)
    return [table for module in modules for table in module.tables(found) if table.rows]


def verdicts(found: StoredResults) -> list[Verdict]:
    """Return what the store says of each claim that it has something for."""
    if not found.reproduced:
        return []
    modules = (figure2, table2, table3, table4)
    return [verdict for module in modules for verdict in module.verdicts(found)]
