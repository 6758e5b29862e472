"""Figure 2: test accuracy against annotations, for seven strategies and DFAL without its twins.

The claim: DFAL's curve lies above the others.
"""

from dfal.reproduce.presets import Preset
from dfal.trial import Trial


def trials(preset: Preset) -> list[Trial]:
    """Every strategy with every seed, and then the network that knows all labels, which is the figure's dashed line."""
    return [*preset.trials(), *preset.full()]
