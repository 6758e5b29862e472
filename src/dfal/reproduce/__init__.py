"""The paper's tables and figures. One file each: its claim, its trials, its tables and verdicts."""

from typing import TYPE_CHECKING

from dfal.lazy import lazy_names
from dfal.reproduce.settings import ARTEFACTS, FIXED, PRESETS

if TYPE_CHECKING:
    from dfal.reproduce import figure3, paper
    from dfal.reproduce.artefacts import UNDECIDED, tables, usual_data, verdicts
    from dfal.reproduce.presets import Preset, preset
    from dfal.reproduce.stored_results import StoredResults, read_results
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "dfal.reproduce.artefacts": "UNDECIDED tables usual_data verdicts",
            "dfal.reproduce.presets": "Preset preset",
            "dfal.reproduce.stored_results": "StoredResults read_results",
        },
        modules="figure3 paper",
    )

__all__ = [
    "ARTEFACTS",
    "FIXED",
    "PRESETS",
    "UNDECIDED",
    "Preset",
    "StoredResults",
    "figure3",
    "paper",
    "preset",
    "read_results",
    "tables",
    "usual_data",
    "verdicts",
]
