"""Recipes: settings of a trial that belong together, by name, without PyTorch."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, fields
from types import MappingProxyType
from typing import Any

from dfal.experiments.trial_settings import TrialSettings
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

RECIPES_ON_FEATURES: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "paper": RECIPES["paper"],
        "quick": MappingProxyType({"training": Training(steps=1500, learning_rate=0.01)}),
        "best": MappingProxyType(
            {"training": Training(unlabelled="spreading"), "first_by": "typical"}
        ),
    }
)
"""The same for a linear layer on the features of a backbone. They are of length 1, so that it needs
longer steps; and labels that spread teach it more than consistency does."""

PAPER = "paper"
"""The recipe whose settings trials have that name none."""
LEARNING = ("first_by", "coverage", "start_from")
"""Settings of a trial, besides those of its training, that belong to a recipe."""


def recipes(backbone: str = "") -> Mapping[str, Mapping[str, Any]]:
    """Return the recipes of trials on the features of a backbone; "" for trials on images."""
    return RECIPES_ON_FEATURES if backbone else RECIPES


def learning_of(trial: TrialSettings) -> dict[str, Any]:
    """Return all settings by which a trial learns from its labels, by name."""
    return asdict(trial.training) | {name: getattr(trial, name) for name in LEARNING}


def recipe_of(trial: TrialSettings) -> tuple[str, dict[str, Any]]:
    """Return the recipe that is nearest to how a trial learns, and the settings that it changes.

    Nearest is the one of which the fewest settings are changed; of several, the first.
    """
    learning = learning_of(trial)
    changes = {
        name: {key: value for key, value in learning.items() if value != recipe[key]}
        for name, recipe in _learning_of_recipes(trial.backbone)
    }
    nearest = min(changes, key=lambda name: len(changes[name]))
    return nearest, changes[nearest]


def describe_learning(trial: TrialSettings) -> str:
    """Return the recipe of a trial and all settings that it changes, or the user's own training."""
    if trial.fit:
        return trial.fit
    name, changed = recipe_of(trial)
    return ", ".join([name, *(f"{key} {value}" for key, value in changed.items())])


def _learning_of_recipes(backbone: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each recipe with all settings by which it learns: its own, and the usual ones."""
    usual = {field.name: field.default for field in fields(TrialSettings)}
    for name, recipe in recipes(backbone).items():
        others = {key: recipe.get(key, usual[key]) for key in LEARNING}
        yield name, asdict(recipe["training"]) | others
