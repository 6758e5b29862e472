"""All tables and verdicts of the paper for which a store has results."""

from dfal.analysis.tables import Table, Verdict
from dfal.reproduce import figure2, figure3, table1, table2, table3, table4
from dfal.reproduce.settings import ARTEFACTS
from dfal.reproduce.stored_results import StoredResults

UNDECIDED = (
    "Tests at 5 %, paired over seeds; differences in points of accuracy with their 95 % CI. Not"
    " reproduced: we did not reproduce the claim here. Undecided: too few seeds, or not run."
)
"""The caption of verdicts."""


def usual_data(what: str) -> dict[str, str]:
    """Return the data set of a table or figure, where it is not that of the preset."""
    return {"dataset": figure3.DATASET} if ARTEFACTS[what] is figure3 else {}


def tables(results: StoredResults) -> list[Table]:
    """Return every table for which a store has results."""
    if not results.reproduced:
        return []
    modules = (table1, table2, table3, table4, figure3)
    return [table for module in modules for table in module.tables(results) if table.rows]


def verdicts(results: StoredResults) -> list[Verdict]:
    """Return the verdict on every claim for which a store has results."""
    if not results.reproduced:
        return []
    modules = (figure2, table2, table3, table4)
    return [verdict for module in modules for verdict in module.verdicts(results)]
