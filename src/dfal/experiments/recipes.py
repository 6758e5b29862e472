"""Recipes: settings of a trial that belong together, by name, without PyTorch."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from dfal.nn.training_settings import Training

RECIPES: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "paper": MappingProxyType({"training": Training()}),
        "quick": MappingProxyType({"training": Training(steps=1500)}),
        "best": MappingProxyType(
            {
                "training": Training(
                    epochs=1,
                    steps=1500,
                    warm_steps=500,
                    learning_rate=3e-3,
                    schedule="cosine",
                    average=0.999,
                    augment="auto",
                    unlabelled="consistency",
                ),
                "first": 30,
                "first_by": "typical",
            }
        ),
    }
)
"""Name of a recipe → settings of `Trial`: as the paper trains; the same, but with enough steps for
few labels; with augmentation and all that the unlabelled images teach."""
