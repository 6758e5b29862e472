"""What results depend on besides their configuration: versions, machine, data and custom code."""

import ast
import hashlib
import inspect
import os
import platform
import re
import subprocess
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
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
from dfal.experiments.featuriser import describe
from dfal.experiments.serialization import parts
from dfal.experiments.store import Store
from dfal.experiments.trial_data import image_shape
from dfal.nn import NETWORKS, kernels
from dfal.nn.custom_fit import load_fit
from dfal.nn.evaluation import frozen_eval
from dfal.nn.inference import logits
from dfal.nn.network_input import prepare_images
from dfal.nn.networks import build
from dfal.seeding import fork_rng
from dfal.strategies.custom import custom

LOGIT_TOLERANCE = 1e-3
"""The difference that two computers may have, as a fraction of the largest logit."""


def environment(trials: Sequence[Any]) -> dict[str, Any]:
    """Return where jobs run, on which data, and with which custom networks and strategies."""
    cuda = any(trial.device.startswith("cuda") for trial in trials)
    jobs = list(chain(trials, *(trial.sources for trial in trials)))
    loaded = {name: datasets.load(name) for name in dict.fromkeys(job.dataset for job in jobs)}
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "versions": (
            {name: version(name) for name in ("dfal", "torch", "numpy")}
            | {"python": platform.python_version()}
        ),
        "machine": f"{_processor()}, {os.cpu_count()} cores, {platform.system()}",
        "gpu": torch.cuda.get_device_name() if cuda and torch.cuda.is_available() else None,
        "threads": 1,
        "kernels": kernels.library() is not None,
        "data": {name: data.fingerprint for name, data in loaded.items()},
        "places": {name: place for name in loaded if (place := datasets.place_of(name))},
        "networks": {
            name: {
                network: _network(job.model, job.data_to_check())
                for network, job in _distinct(jobs, name, _network_name)
                if job.model not in NETWORKS
            }
            for name in loaded
        },
        "backbones": {
            name: {
                features: _backbone(job, data)
                for features, job in _distinct(jobs, name, lambda job: getattr(job, "features", ""))
            }
            for name, data in loaded.items()
        },
        "trainings": {
            name: _hash(text)
            for name in sorted({getattr(trial, "fit", "") for trial in trials} - {""})
            if (text := _source(load_fit(name).function)) is not None
        },
        "strategies": dict(
            name_and_hash
            for trial in trials
            for part in parts(trial)
            for name_and_hash in _custom_code(part)
        ),
    }


def place_in(store: Store, name: str) -> str | None:
    """Return where runs of a store last found a data set, if its file or folder still exists."""
    if name in datasets.DATASETS or Path(name).exists():
        return None
    places = (run.get("places", {}).get(name) for run in reversed(store.environments()))
    return next((place for place in places if place and Path(place).exists()), None)


def refuse_changed(store: Store, now: Mapping[str, Any]) -> None:
    """Check that data, networks and strategies are those that a store began with.

    Older stores do not record all of them; what is not recorded is not checked.

    Raises:
        DfalError: for the first that has changed.
    """
    if (what := next(_changed(store, now), None)) is not None:
        raise DfalError(
            f"the {what} is not the one that {store.path} began with: bring it back, or name a new"
            " store"
        )


def _changed(store: Store, now: Mapping[str, Any]) -> Iterator[str]:
    """Yield what has changed since the runs of a store, in words."""
    for past in store.environments():
        for name, fingerprint in now["data"].items():
            if past["data"].get(name, fingerprint) != fingerprint:
                yield f"data set {name}"
            for kind in ("network", "backbone"):
                before = past.get(f"{kind}s", {}).get(name, {})
                for model, network in now[f"{kind}s"][name].items():
                    if not _alike(before.get(model, network), network):
                        yield f"{kind} {model}"
        for kinds, kind in (("strategies", "strategy"), ("trainings", "training")):
            for name, code in now[kinds].items():
                if past.get(kinds, {}).get(name, code) != code:
                    yield f"{kind} {name}"


def _network_name(job: Any) -> str:
    name: str = getattr(job, "network", job.model)
    return name


def _distinct(
    jobs: Sequence[Any], dataset: str, name_of: Callable[[Any], str]
) -> list[tuple[str, Any]]:
    """Return one of the jobs on a data set for each name; jobs without one are left out."""
    found = {name: job for job in jobs if job.dataset == dataset and (name := name_of(job))}
    return sorted(found.items(), key=lambda pair: pair[0])


def _backbone(job: Any, data: Dataset) -> dict[str, Any]:
    """Return what identifies a backbone, in the form of `_network`."""
    described = describe(job.backbone, image_shape(data, job.backbone, job.size))
    return {"layers": described.layers, "logits": list(described.probe)}


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _network(name: str, data: Dataset) -> dict[str, Any]:
    """Return what identifies a custom network: a hash of its layers, and its logits for noise.

    The weights are those of one seed; logits that are not a function of it are left out.
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
        (name, tuple(tensor.shape), str(tensor.dtype))
        for name, tensor in chain(model.named_parameters(), model.named_buffers())
    ]
    layers = f"{weights} {re.sub(' at 0x[0-9a-f]+', '', repr(model))}"
    return {"layers": _hash(layers)} | ({"logits": outs[0].tolist()} if torch.equal(*outs) else {})


def _alike(past: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Return whether two descriptions of `_network` are of the same network."""
    before, after = (np.array(network.get("logits", [])) for network in (past, now))
    if past["layers"] != now["layers"] or not before.size or not after.size:
        return bool(past["layers"] == now["layers"])
    return before.shape == after.shape and bool(
        np.allclose(before, after, rtol=0, atol=LOGIT_TOLERANCE * np.abs(before).max())
    )


def _custom_code(part: Any) -> Iterator[tuple[str, str]]:
    """Yield a custom strategy's or attack's name on the command line, and a hash of its code."""
    known = custom(part)
    if known is None or known.code is None:
        return
    code = known.code if inspect.isfunction(known.code) else type(known.code)
    if not code.__module__.startswith("dfal.") and (text := _source(code)) is not None:
        yield known.option, _hash(text)


def _source(code: Any) -> str | None:
    """Return the source of a function or class, and of its base classes in the same module.

    It is without comments, layout and docstrings, and without what is called elsewhere; None where
    there is no source.
    """
    texts = []
    for definition in getattr(code, "__mro__", (code,)):
        if definition.__module__ != code.__module__:
            continue
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(definition)))
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
    """Return the commit of the checkout that this package runs from, with + if files differ."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(Path(__file__).parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", __file__)  # fails in another project's repository
        return git("rev-parse", "HEAD") + (
            "+" if git("status", "--porcelain", "--untracked-files=no") else ""
        )
    except (OSError, subprocess.CalledProcessError):
        return None


def _processor() -> str:
    """Return the name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")),
        platform.machine(),
    )
