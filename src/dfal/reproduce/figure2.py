"""Figure 2: test accuracy against annotations, for seven strategies and DFAL without its twins.

The claim: DFAL's curve lies above the others; the dashed line is the network that knows all labels.
"""

from collections.abc import Sequence

from dfal.analysis.learning_curves import Curve, Study
from dfal.analysis.tables import Table, Verdict
from dfal.experiments.runner import Job
from dfal.reproduce import table1
from dfal.reproduce.presets import Preset
from dfal.reproduce.stored_results import StoredResults, curve


def stages(preset: Preset) -> list[Sequence[Job]]:
    """The trials of Table 1: seed by seed, so that a study that is stopped can be compared
    already."""
    return table1.stages(preset)


def tables(shelf: StoredResults) -> list[Table]:
    """Those of Table 1."""
    return table1.tables(shelf)


def verdicts(shelf: StoredResults) -> list[Verdict]:
    """Table 1's, and how far the curves lie apart over all budgets."""
    found = [above(study, dfal) for study in shelf.main if (dfal := curve(study, "dfal"))]
    return [*found, *table1.verdicts(shelf)]


def above(study: Study, dfal: Curve) -> Verdict:
    """DFAL's curve has a larger area than random choice's."""
    return table1.larger_area(study, dfal, "random", "DFAL's curve lies above random choice's")
