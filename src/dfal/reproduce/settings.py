"""Names of tables, figures and presets, and the settings of presets, without PyTorch.

The command line reads its options from them.
"""

from dataclasses import dataclass
from types import ModuleType
from typing import Any

from dfal.fields import setting
from dfal.registry import Entry, Registry

ROWS = ("dfal", "bald", "ceal", "core-set", "egl", "uncertainty", "random", "dfal-no-twins")
"""The strategies of Table 1 and Figure 2 in the paper's order, and DFAL without its twins, which
the later figure has."""


@dataclass(frozen=True)
class PresetSettings:
    """The fields of `Preset`, in their order."""

    trial: Any
    candidates: int | None = setting(
        300, "images of the pool among which a strategy selects in each round (K)"
    )
    seeds: int = setting(5, "trials of each strategy")
    full_epochs: int = setting(
        20, "passes over the data for the network that is trained on the full training set"
    )
    until: int = setting(2000, "annotations up to which trials of Table 2 run")
    other: str = setting("vgg8", "the other network of Table 4 and Figure 3")
    one_way: bool = setting(
        False, "only --model selects, and --other is trained on its images: half of Table 4"
    )
    strategies: tuple[str, ...] = ROWS


PRESETS: Registry[Any] = Registry(
    "preset",
    {
        "paper": Entry("dfal.reproduce.presets:PAPER", "the paper's protocol"),
        "quick": Entry("dfal.reproduce.presets:QUICK", "a coarser protocol that takes minutes"),
    },
)

ARTEFACTS: Registry[ModuleType] = Registry(
    "table or figure",
    {
        "table1": Entry("dfal.reproduce.table1", "accuracies of all strategies"),
        "table2": Entry("dfal.reproduce.table2", "labels to reach the accuracy of the full set"),
        "table3": Entry("dfal.reproduce.table3", "seconds of a selection"),
        "table4": Entry("dfal.reproduce.table4", "images selected by one network for another"),
        "figure2": Entry("dfal.reproduce.figure2", "learning curves of all strategies"),
        "figure3": Entry("dfal.reproduce.figure3", "learning curves of the other network"),
    },
)
"""By the paper's names. Each has `stages`, the jobs to run one stage after the other, and `tables`
and `verdicts` of stored results."""

FIXED = ("table3", "table4", "figure3")
"""Tables and figures of fixed strategies, which take no --strategy."""
