"""Checks of what callers hand over: each raises one sentence that names the cure."""

import contextlib
import dataclasses
import inspect
import operator
import os
import sys
from typing import Any

from dfal.errors import DfalError


def kind_of(value: Any) -> str:
    """Return how a value is called in a sentence: the name of its type, or of itself where it is a
    class."""
    return f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__


def check_network(model: Any, what: str = "the network") -> None:
    """Raise unless this is a network of PyTorch."""
    from torch import nn  # slow to import: settings are checked without it

    if isinstance(model, nn.Module):
        return
    cure = "give the network itself"
    if isinstance(getattr(model, "module_", None), nn.Module):  # skorch, once it is fitted
        cure = "give its .module_"
    elif isinstance(getattr(model, "model", None), nn.Module):  # trainers, pipelines, learners
        cure = "give its .model"
    elif hasattr(model, "module") and hasattr(model, "fit"):
        cure = "fit it first, and give its .module_"
    elif hasattr(model, "predict_proba") or hasattr(model, "predict"):
        cure = (
            "models of other libraries have no gradients here; write it as an nn.Module that"
            " returns logits"
        )
    elif isinstance(model, dict):
        cure = "make the network and give it these with load_state_dict"
    elif isinstance(model, type) or inspect.isroutine(model):
        cure = f"call it, as in {getattr(model, '__name__', 'it')}()"
    raise DfalError(
        f"{what} must be a torch.nn.Module that returns logits, but it is {kind_of(model)}: {cure}"
    )


def check_generator(rng: Any) -> None:
    """Raise unless this is a generator of PyTorch on the CPU."""
    import torch  # slow to import: settings are checked without it

    cure = "give dfal.generator(seed, round, 'select'), or torch.Generator().manual_seed(seed)"
    if not isinstance(rng, torch.Generator):
        raise DfalError(f"rng must be a torch.Generator, but it is {kind_of(rng)}: {cure}")
    if rng.device.type != "cpu":
        raise DfalError(f"rng must be a generator on the CPU, but it is on {rng.device}: {cure}")


def check_function(name: str, value: Any, arguments: tuple[str, ...], cure: str) -> None:
    """Raise unless this can be called with so many arguments."""
    called = f"({', '.join(arguments)})"
    if isinstance(value, type) or not callable(value):
        raise DfalError(f"{name} must be a function {called}, but it is {kind_of(value)}: {cure}")
    try:
        signature = inspect.signature(value)
    except ValueError:  # a built-in function may not say what it takes
        return
    try:
        signature.bind(*arguments)
    except TypeError:
        raise DfalError(
            f"{name} takes {signature}, but it is called with {called}: {cure}"
        ) from None


def check_strategy(strategy: Any) -> None:
    """Raise unless this can be called as a strategy."""
    cure = (
        "give an object such as dfal.DFAL(), or a function of these arguments that returns a"
        " dfal.Query"
    )
    if isinstance(strategy, str):
        cure = f"give dfal.strategies.named({strategy!r}), or an object such as dfal.DFAL()"
    elif isinstance(strategy, type):
        cure = f"give an object of it, {strategy.__name__}()"
    check_function("the strategy", strategy, ("model", "pool", "k", "rng"), cure)


def check_fields(value: Any) -> None:
    """Make every number and text of a frozen configuration one of Python's own, whose text never
    changes.

    Raises:
        DfalError: for a number or a text that is none.
    """
    torch = sys.modules.get("torch")  # a device of PyTorch is none before PyTorch is imported
    texts = (os.PathLike, torch.device) if torch else os.PathLike
    for field in dataclasses.fields(value):
        given, kind = getattr(value, field.name), type(field.default)
        if kind is str:
            plain: Any = str(given) if isinstance(given, texts) else given
            if not isinstance(plain, str):
                raise DfalError(
                    f"{field.name} = {short(given)} must be a text, but it is {kind_of(given)}"
                )
        elif kind is int:
            plain = whole(field.name, given)
        elif kind is float:
            plain = given if type(given) in {int, float} else number(field.name, given)
        else:
            continue
        object.__setattr__(value, field.name, plain)


def whole(name: str, value: Any) -> int:
    """Return a whole number of whatever type as an int; a float of a whole value counts as one.

    Raises:
        DfalError: for anything else.
    """
    with contextlib.suppress(TypeError, ValueError, RuntimeError):
        return operator.index(value)
    with contextlib.suppress(DfalError):
        if (found := number(name, value)).is_integer():
            return int(found)
    raise DfalError(f"{name} = {short(value)} is no whole number: give an int")


def number(name: str, value: Any) -> float:
    """Return a number of whatever type as a float.

    Raises:
        DfalError: for anything else, texts among them.
    """
    if not isinstance(value, str | bytes):
        with contextlib.suppress(TypeError, ValueError, RuntimeError, OverflowError):
            return float(value)
    raise DfalError(f"{name} = {short(value)} is no number: give a float")


def short(value: Any) -> str:
    """Return a value as its repr in a sentence, cut off where it is long."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:59]}…"
