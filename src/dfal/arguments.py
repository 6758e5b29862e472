"""Checks of arguments: each raises one sentence that says what is wrong and what to give."""

import contextlib
import dataclasses
import inspect
import operator
import os
import sys
from typing import Any

from dfal.errors import DfalError


def kind_of(value: Any) -> str:
    """Return what to call a value in a sentence: by the name of its type; a class by its own."""
    return f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__


def check_network(model: Any, what: str = "the network") -> None:
    """Check that a value is a network of PyTorch.

    Args:
        model: the value.
        what: what it is called in the sentence.

    Raises:
        DfalError: for anything else.
    """
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
    """Check that a value is a generator of PyTorch on the CPU.

    Raises:
        DfalError: for anything else.
    """
    import torch  # slow to import: settings are checked without it

    cure = "give dfal.generator(seed, round, 'select'), or torch.Generator().manual_seed(seed)"
    if not isinstance(rng, torch.Generator):
        raise DfalError(f"rng must be a torch.Generator, but it is {kind_of(rng)}: {cure}")
    if rng.device.type != "cpu":
        raise DfalError(f"rng must be a generator on the CPU, but it is on {rng.device}: {cure}")


def check_function(name: str, value: Any, arguments: tuple[str, ...], cure: str) -> None:
    """Check that a value can be called with as many arguments as there are names.

    Args:
        name: what the value is called in the sentence.
        value: the function.
        arguments: the names of its arguments, for the sentence.
        cure: what to give instead.

    Raises:
        DfalError: for a class, for what cannot be called, or takes other arguments.
    """
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
    """Check that a value can be called as a strategy.

    Raises:
        DfalError: for anything else.
    """
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
    """Convert the numbers and texts of a frozen configuration to Python's own types.

    Their text, from which ids are made, never changes.

    Raises:
        DfalError: for a value that is no number or no text.
    """
    torch = sys.modules.get("torch")  # a device of PyTorch is none before PyTorch is imported
    texts = (os.PathLike, torch.device) if torch else os.PathLike
    for field in dataclasses.fields(value):
        setting, kind = getattr(value, field.name), type(field.default)
        if kind is str:
            plain: Any = str(setting) if isinstance(setting, texts) else setting
            if not isinstance(plain, str):
                raise DfalError(
                    f"{field.name} = {short(setting)} must be a text, but it is {kind_of(setting)}"
                )
        elif kind is int:
            plain = whole(field.name, setting)
        elif kind is float:
            is_plain = type(setting) in {int, float}
            plain = setting if is_plain else number(field.name, setting)
        else:
            continue
        object.__setattr__(value, field.name, plain)


def whole(name: str, value: Any) -> int:
    """Return a whole number of any type as an int; 3.0 counts as one.

    Args:
        name: what the value is called in the sentence.
        value: the number.

    Raises:
        DfalError: for anything else.
    """
    with contextlib.suppress(TypeError, ValueError, RuntimeError):
        return operator.index(value)
    with contextlib.suppress(DfalError):
        if (real := number(name, value)).is_integer():
            return int(real)
    raise DfalError(f"{name} = {short(value)} is not a whole number: give an int")


def number(name: str, value: Any) -> float:
    """Return a number of any type as a float.

    Args:
        name: what the value is called in the sentence.
        value: the number.

    Raises:
        DfalError: for anything else, texts among them.
    """
    if not isinstance(value, str | bytes):
        with contextlib.suppress(TypeError, ValueError, RuntimeError, OverflowError):
            return float(value)
    raise DfalError(f"{name} = {short(value)} is not a number: give a float")


def short(value: Any) -> str:
    """Return the repr of a value in one line of at most 60 characters."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:59]}…"
