"""The paper's tables and figures again. One file each: claim, trials, how it is judged, the paper's numbers beside ours."""

from types import ModuleType

from dfal.reproduce import figure2
from dfal.reproduce.presets import PRESETS, Preset, preset

__all__ = ["ALL", "PRESETS", "Preset", "preset"]

ALL: dict[str, ModuleType] = {"figure2": figure2}
"""By the paper's names."""
