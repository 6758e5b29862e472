"""Figure 2: test accuracy against annotations, for seven strategies and DFAL without its twins.

The claim: DFAL's curve lies above the others; the dashed line is the network that knows all labels.
"""

from collections.abc import Sequence

from dfal.analysis.learning_curves import Curve, Study
from dfal.analysis.tables import Table, Verdict
from dfal.experiments.jobs import Job
from dfal.reproduce import table1
from dfal.reproduce.presets import Preset
from dfal.reproduce.stored_results import StoredResults, curve_named


def stages(preset: Preset) -> list[Sequence[Job]]:
    """Return the trials of Table 1, seed by seed, so that an unfinished study can be compared."""
    return table1.stages(preset)


def tables(results: StoredResults) -> list[Table]:
    """Make the tables of Table 1."""
    return table1.tables(results)


def verdicts(results: StoredResults) -> list[Verdict]:
    """Judge whether DFAL's curve is above random sampling's, and the claims of Table 1."""
    judged = [above(study, ours) for study in results.main if (ours := curve_named(study, "dfal"))]
    return [*judged, *table1.verdicts(results)]


def above(study: Study, dfal: Curve) -> Verdict:
    """Judge whether DFAL has a higher AULC than random sampling."""
    return table1.higher_aulc(
        study, dfal, "random", "DFAL's curve lies above that of random sampling"
    )
