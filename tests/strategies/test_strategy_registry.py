"""The registry of strategies: names, help, classes, and what imports nothing."""

import dataclasses
import importlib
import inspect
import pkgutil
import subprocess
import sys

import pytest
import torch

import dfal
from dfal import strategies
from dfal.experiments.serialization import BARE
from dfal.strategies import STRATEGIES, CustomStrategy, name_of, named, with_candidates

ALIASES = {"entropy": "uncertainty"}
"""Names of strategies that go by another name in tables."""


def test_names_and_help_import_neither_torch_nor_numpy() -> None:
    """Beside the package dfal itself, whose own imports are not looked at here."""
    code = f"""
import sys, types
package = types.ModuleType("dfal")
package.__path__ = {list(dfal.__path__)}
sys.modules["dfal"] = package
from dfal.strategies import STRATEGIES
[STRATEGIES.about(name) for name in STRATEGIES]
assert not {{"torch", "numpy"}} & sys.modules.keys()
from dfal.strategies import DFAL
assert "torch" in sys.modules and STRATEGIES["dfal"] == DFAL()
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", STRATEGIES)
def test_each_name_stands_for_a_frozen_dataclass(name: str) -> None:
    strategy = STRATEGIES[name]
    assert dataclasses.is_dataclass(strategy)
    assert hash(strategy) == hash(STRATEGIES[name])
    assert name_of(with_candidates(strategy, 17)) == ALIASES.get(name, name)
    assert named(f" {name.upper()} ") == strategy


@pytest.mark.parametrize("name", STRATEGIES)
def test_help_fits_into_a_terminal(name: str) -> None:
    about = STRATEGIES.about(name)
    assert len(about) <= 58
    assert about == about.strip().rstrip(".")


def test_every_strategy_class_is_registered() -> None:
    """Also one in a file that no other imports."""
    kinds = {
        kind
        for module in pkgutil.iter_modules(strategies.__path__, f"{strategies.__name__}.")
        for kind in vars(importlib.import_module(module.name)).values()
        if isinstance(kind, type) and kind.__module__ == module.name and is_strategy(kind)
    }
    registered = {type(strategy) for strategy in STRATEGIES.values()}
    assert kinds == registered | {dfal.WithCoverage, dfal.WithTwins, CustomStrategy}
    assert len({kind.__name__ for kind in registered}) == len(registered)


def is_strategy(kind: type) -> bool:
    """Whether objects of a class can be called, and all of its methods are there."""
    abstract = (getattr(kind, name) for name in dir(kind))
    return inspect.isfunction(getattr(kind, "__call__", None)) and not any(  # noqa: B004
        getattr(method, "__isabstractmethod__", False) for method in abstract
    )


def test_classes_are_found_in_the_package() -> None:
    for name in strategies.__all__:
        assert getattr(strategies, name) is not None
    for name in STRATEGIES:
        kind = type(STRATEGIES[name])
        assert getattr(strategies, kind.__name__) is kind
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        strategies.Nothing  # noqa: B018


def test_classes_are_stored_by_their_bare_names() -> None:
    """Stores have these names: one that is taken away makes them unreadable."""
    kinds = {type(strategy) for strategy in STRATEGIES.values()}
    kinds |= {dfal.WithCoverage, dfal.WithTwins}
    assert {kind.__name__: kind for kind in kinds}.items() <= BARE.items()
    assert {kind.__name__ for kind in kinds} >= {
        "BADGE",
        "BALD",
        "BatchBALD",
        "BatchDFAL",
        "CEAL",
        "ClusterMargin",
        "CoreSet",
        "DFAL",
        "EGL",
        "Entropy",
        "LeastConfidence",
        "Margin",
        "MaxHerding",
        "ProbCover",
        "Random",
        "RobustCoreSet",
        "Stochastic",
        "TypiClust",
        "UHerding",
        "WithCoverage",
        "WithTwins",
    }
    assert "CustomStrategy" not in BARE


def test_a_strategy_without_a_name_is_called_by_its_class_and_settings() -> None:
    strategy = dfal.DFAL(attack=dfal.DeepFool(p=torch.inf), candidates=9)
    assert name_of(strategy) == "DFAL(attack=DeepFool(p=inf))"
    around = dfal.Stochastic(dfal.CEAL(threshold=1.0))
    assert name_of(around) == "Stochastic(strategy=CEAL(threshold=1.0))"


def test_candidates_are_set_where_there_are_any() -> None:
    assert with_candidates(dfal.Random(), 5) == dfal.Random()
    assert with_candidates(dfal.Margin(), 5) == dfal.Margin(candidates=5)
    assert with_candidates(dfal.WithTwins(dfal.Margin()), 5) == dfal.WithTwins(dfal.Margin(5))


def test_a_name_with_twins_behind_it() -> None:
    assert named("margin+twins") == dfal.WithTwins(dfal.Margin())
    assert name_of(with_candidates(named("badge+twins"), 40)) == "badge+twins"


def test_an_unknown_name_offers_the_nearest() -> None:
    for look_up in (named, STRATEGIES.__getitem__):
        with pytest.raises(dfal.DfalError, match="no strategy 'margn': did you mean 'margin'"):
            look_up("margn")
    with pytest.raises(dfal.DfalError, match="no strategy 'margn': did you mean 'margin'"):
        named("margn+twins")
    with pytest.raises(dfal.DfalError, match=r"package\.module:name"):
        named("margn", imports=True)
