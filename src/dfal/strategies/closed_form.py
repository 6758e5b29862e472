"""DeepFool in closed form, for strategies that query with a network that is one linear layer."""

from dataclasses import fields, is_dataclass, replace
from typing import Any

from dfal.attacks import DeepFool, LinearHead
from dfal.protocols import Strategy


def in_closed_form(strategy: Strategy) -> Strategy:
    """Return a strategy of dfal's with the closed form in place of DeepFool, wherever it has that.

    For a network that is one linear layer, `LinearHead` gives the same distances and twins without
    steps. DeepFool with clipping, with some of the classes, or without overshoot is left as it is:
    there the results differ.
    """
    if not is_dataclass(strategy) or not type(strategy).__module__.startswith("dfal."):
        return strategy
    changes: dict[str, Any] = {}
    for field in fields(strategy):
        value = getattr(strategy, field.name)
        if isinstance(value, DeepFool):
            if value.clip is None and value.classes is None and value.overshoot > 0:
                changes[field.name] = LinearHead(value.p, value.overshoot)
        elif field.name == "strategy":
            changes[field.name] = in_closed_form(value)
    changed: Any = replace(strategy, **changes)
    result: Strategy = changed
    return result
