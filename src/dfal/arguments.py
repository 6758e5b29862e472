"""Checks of what callers hand over: each raises one sentence that names the cure."""

import inspect
import operator
from typing import Any

import torch
from torch import nn

from dfal.types import DfalError


def kind_of(value: Any) -> str:
    """Return how a value is called in a sentence: the name of its type, or of itself where it is a class."""
    return f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__


def check_network(model: Any, what: str = "the network") -> None:
    """Raise unless this is a network of PyTorch."""
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
        cure = "models of other libraries have no gradients here; write it as an nn.Module that returns logits"
    elif isinstance(model, dict):
        cure = "make the network and give it these with load_state_dict"
    elif isinstance(model, type) or inspect.isroutine(model):
        cure = f"call it, as in {getattr(model, '__name__', 'it')}()"
    raise DfalError(f"{what} must be a torch.nn.Module that returns logits, but it is {kind_of(model)}: {cure}")


def check_generator(rng: Any) -> None:
    """Raise unless this is a generator of PyTorch on the CPU."""
    cure = "give dfal.generator(seed, round, 'select'), or torch.Generator().manual_seed(seed)"
    if not isinstance(rng, torch.Generator):
        raise DfalError(f"rng must be a torch.Generator, but it is {kind_of(rng)}: {cure}")
    if rng.device.type != "cpu":
        raise DfalError(f"rng must be a generator on the CPU, but it is on {rng.device}: {cure}")


def whole(name: str, value: Any) -> int:
    """Return a whole number of whatever type as an int; a float of a whole value counts as one.

    Raises:
        DfalError: for anything else.
    """
    if not isinstance(value, str | bytes) and not (torch.is_tensor(value) and value.numel() != 1):
        try:
            return operator.index(value)
        except (TypeError, ValueError, RuntimeError):
            pass
        try:
            number = float(value)
        except (TypeError, ValueError, RuntimeError, OverflowError):
            number = 0.5
        if number.is_integer():
            return int(number)
    raise DfalError(f"{name} = {short(value)} is no whole number: give one as an int")


def short(value: Any) -> str:
    """Return a value as its repr in a sentence, cut off where it is long."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:59]}…"
