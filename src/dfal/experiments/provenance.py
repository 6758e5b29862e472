"""What results depend on beside their configuration: versions, machine, data, and code that is not
dfal's own."""

import ast
import hashlib
import inspect
import os
import platform
import re
import subprocess
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dfal.data import datasets
from dfal.data.datasets import Dataset
from dfal.errors import DfalError
from dfal.experiments.serialization import parts
from dfal.experiments.store import Store
from dfal.nn import NETWORKS
from dfal.nn.inference import frozen_eval, logits, prepare_images
from dfal.nn.networks import build
from dfal.seeding import fork_rng
from dfal.strategies.custom import custom

CLOSE = 1e-3
"""By how much of the largest logit two computers may differ."""


def environment(trials: Sequence[Any]) -> dict[str, Any]:
    """Where these trials (or other jobs) run, on which data, and with which networks and
    strategies."""
    cuda = any(trial.device.startswith("cuda") for trial in trials)
    models: dict[str, set[str]] = {}
    for job in chain(trials, *(trial.sources for trial in trials)):
        models.setdefault(job.dataset, set()).add(job.model)
    loaded = {name: datasets.load(name) for name in models}
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "versions": (
            {name: version(name) for name in ("dfal", "torch", "numpy")}
            | {"python": platform.python_version()}
        ),
        "machine": f"{_processor()}, {os.cpu_count()} cores, {platform.system()}",
        "gpu": torch.cuda.get_device_name() if cuda else None,
        "threads": 1,
        "data": {name: data.fingerprint for name, data in loaded.items()},
        "places": {name: place for name in loaded if (place := datasets.place_of(name))},
        "networks": {
            name: {model: _network(model, data) for model in sorted(models[name] - NETWORKS.keys())}
            for name, data in loaded.items()
        },
        "strategies": dict(
            found for trial in trials for part in parts(trial) for found in _own_code(part)
        ),
    }


def place_in(store: Store, name: str) -> str | None:
    """Return where the data set of a file or folder was last found by the runs of a store, if
    something is there still."""
    if name in datasets.DATASETS or Path(name).exists():
        return None
    places = (run.get("places", {}).get(name) for run in reversed(store.environments()))
    return next((place for place in places if place and Path(place).exists()), None)


def refuse_changed(store: Store, now: Mapping[str, Any]) -> None:
    """Raise where a store began with other data, or with another network or strategy of the same
    name; what it did not write down yet is taken as it is."""
    if (what := next(_changed(store, now), None)) is not None:
        raise DfalError(
            f"the {what} is not the one that {store.path} began with: bring it back, or name a new"
            " store"
        )


def _changed(store: Store, now: Mapping[str, Any]) -> Iterator[str]:
    for past in store.environments():
        for name, fingerprint in now["data"].items():
            if past["data"].get(name, fingerprint) != fingerprint:
                yield f"data set {name}"
            for model, found in now["networks"][name].items():
                if not _alike(past.get("networks", {}).get(name, {}).get(model, found), found):
                    yield f"network {model}"
        for name, code in now["strategies"].items():
            if past.get("strategies", {}).get(name, code) != code:
                yield f"strategy {name}"


def _network(name: str, data: Dataset) -> dict[str, Any]:
    """What tells a network from another of the same name: its layers, and its logits for noise with
    the weights of one seed.

    The logits are left out where they are not a function of the seed.
    """
    noise = torch.rand(2, *data.images.shape, generator=torch.Generator().manual_seed(0))
    outs = []
    for _ in range(2):
        with fork_rng(0):
            model = build(name, data.images.shape, len(data.classes))
        with frozen_eval(model), torch.no_grad():
            outs.append(
                logits(model, prepare_images(model, noise)).flatten()[:100].double().nan_to_num()
            )
    weights = [
        (name, tuple(one.shape), str(one.dtype))
        for name, one in chain(model.named_parameters(), model.named_buffers())
    ]
    layers = f"{weights} {re.sub(' at 0x[0-9a-f]+', '', repr(model))}"
    return {"layers": hashlib.sha256(layers.encode()).hexdigest()[:16]} | (
        {"logits": outs[0].tolist()} if torch.equal(*outs) else {}
    )


def _alike(past: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    before, after = (np.array(one.get("logits", [])) for one in (past, now))
    if past["layers"] != now["layers"] or not before.size or not after.size:
        return bool(past["layers"] == now["layers"])
    return before.shape == after.shape and bool(
        np.allclose(before, after, rtol=0, atol=CLOSE * np.abs(before).max())
    )


def _own_code(part: Any) -> Iterator[tuple[str, str]]:
    """A strategy or attack of the user's by its name on the command line, and a hash of how it is
    written."""
    known = custom(part)
    if known is None or known.code is None:
        return
    code = known.code if inspect.isfunction(known.code) else type(known.code)
    if not code.__module__.startswith("dfal.") and (text := _written(code)) is not None:
        yield known.option, hashlib.sha256(text.encode()).hexdigest()[:16]


def _written(code: Any) -> str | None:
    """A function's or class's text, and that of the classes above it in its module, without
    comments, layout and docstrings.

    None where nobody knows it. What it calls elsewhere is not looked at.
    """
    texts = []
    for one in [
        one for one in getattr(code, "__mro__", (code,)) if one.__module__ == code.__module__
    ]:
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(one)))
        except (OSError, TypeError, SyntaxError):
            return None
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.FunctionDef | ast.ClassDef)
                and ast.get_docstring(node) is not None
            ):
                node.body = node.body[1:] or [ast.Pass()]
        texts.append(ast.unparse(tree))
    return "\n".join(texts)


def _commit() -> str | None:
    """The commit of the checkout that this package runs from, with a + where files differ from
    it."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(Path(__file__).parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        git(
            "ls-files", "--error-unmatch", __file__
        )  # fails where the package lies in somebody else's repository
        return git("rev-parse", "HEAD") + (
            "+" if git("status", "--porcelain", "--untracked-files=no") else ""
        )
    except (OSError, subprocess.CalledProcessError):
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")),
        platform.machine(),
    )
