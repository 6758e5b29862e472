"""Measure what docs/how-dfal-works.md says of DFAL: distances, accuracies, changes of digits."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from plane import Boundary, Plane, accuracy, classes_of
from torch import Tensor, nn

import dfal
from dfal.attacks.affine import norm
from dfal.attacks.trace import Step, trace
from dfal.data.datasets import Dataset, load

NEAREST = 9
"""Points that a method selects in the pictures."""
SEED = 4
"""Of the pool in the pictures."""
SEEDS = 10
"""Pools over which the accuracy after three queries is averaged."""


def nearest_of_another_class(state: Plane, x: Tensor) -> tuple[NDArray[np.float64], Tensor]:
    """Return the distance of each point to the nearest labelled one of another class, and that.

    The class of a point is the predicted one, since its label is unknown.
    """
    labelled = state.pool.labelled
    own = classes_of(state.model, x)
    distances = torch.cdist(x, state.x[labelled])
    distances[own.unsqueeze(1) == state.y[labelled]] = torch.inf
    nearest = distances.min(1)
    return nearest.values.double().numpy(), state.x[labelled[nearest.indices]]


def longest_trace(state: Plane) -> list[Step]:
    """Return the steps for the point that takes the most; of several, the longest last but one."""
    longest = state.x[state.pool.unlabelled]
    for most in range(1, 50):
        fooled = dfal.DeepFool(max_steps=most)(state.model, longest).fooled
        if bool(fooled.all()):
            break
        longest = longest[~fooled]
    traces = [trace(dfal.DeepFool(), state.model, x) for x in longest]
    return max(traces, key=lambda steps: float((steps[-2].to - steps[-2].x).norm()))


def after_queries(state: Plane, queries: int) -> Plane:
    """Return the state after some queries of three points by DFAL."""
    for round in range(queries):
        rng = dfal.generator(SEED, round, "select")
        query = dfal.DFAL(candidates=None)(state.model, state.pool, 3, rng)
        state = state.after(query, SEED)
    return state


def learning(seeds: int) -> dict[str, list[float]]:
    """Return accuracies after three queries of three points, by strategy, one a seed."""
    strategies = {
        "before": None,
        "random sampling": dfal.Random(),
        "DFAL without twins": dfal.DFAL(candidates=None, twins=False),
        "DFAL": dfal.DFAL(candidates=None),
    }
    found: dict[str, list[float]] = {name: [] for name in strategies}
    for seed in range(seeds):
        start = Plane.start(300, 3, seed)
        for name, strategy in strategies.items():
            state = start
            for round in range(3 if strategy else 0):
                rng = dfal.generator(seed, round, "select")
                state = state.after(strategy(state.model, state.pool, 3, rng), seed)
            found[name].append(100 * accuracy(state.model))
    return found


def digits(size: int, epochs: int) -> tuple[Dataset, dict[str, nn.Module]]:
    """Return the digits, and networks that were trained on `size` of them."""
    data = load("mnist-5k")  # in the order of their classes
    chosen = range(0, len(data.images), len(data.images) // size)
    pool = dfal.Pool.new(data.images, {i: int(data.labels[i]) for i in chosen})
    training, labelled = dfal.Training(epochs=epochs), pool.labelled_data()

    def flat() -> nn.Sequential:
        return nn.Sequential(nn.Flatten(), nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))

    return data, {
        "LeNet5 itself": dfal.fit(dfal.lenet5, labelled, training, 0),
        "LeNet5 of another seed": dfal.fit(dfal.lenet5, labelled, training, 1),
        "network without convolutions": dfal.fit(flat, labelled, training, 0),
    }


FACTORS = (1.02, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)
"""Lengths of perturbations, in multiples of DeepFool's distance."""


@torch.no_grad()
def transfer(networks: Mapping[str, nn.Module], x: Tensor) -> dict[str, list[float]]:
    """Return the share of images, in %, whose predicted class changes, by the length of the change.

    All networks are given the perturbations of the first one. The last row is the first network
    with random noise of the same length in their place.
    """
    first = next(iter(networks.values()))
    attack = dfal.DeepFool()
    perturbation = attack(first, x)
    r = (perturbation.images - x)[perturbation.fooled] / (1 + attack.overshoot)
    x = x[perturbation.fooled]
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    noise *= (norm(r, 2) / norm(noise, 2)).view(-1, 1, 1, 1)
    rows = [(name, network, r) for name, network in networks.items()]
    rows.append(("LeNet5 itself, random noise", first, noise))
    changed = {}
    for name, network, change in rows:
        before = classes_of(network, x)
        shares = [(classes_of(network, x + factor * change) != before) for factor in FACTORS]
        changed[name] = [100 * float(share.float().mean()) for share in shares]
    return changed


def one_digit(network: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """Return the change of one image by DeepFool, and by the shortest step of FGSM that fools."""
    image = x.unsqueeze(0)
    found = {"DeepFool": dfal.DeepFool()(network, image).images[0] - x}
    for epsilon in np.arange(0.01, 1, 0.01):
        step = dfal.FGSM(float(epsilon))(network, image)
        if bool(step.fooled):
            return found | {"FGSM": step.images[0] - x}
    raise ValueError("no step of FGSM changes the class of this image")


def measured_distances(state: Plane) -> dict[str, float]:
    """Return how both estimates agree with the true distance."""
    x = state.x[state.pool.unlabelled]
    true, _ = Boundary.of(state.model, 800).nearest(x)
    other, _ = nearest_of_another_class(state, x)
    estimate = dfal.DeepFool()(state.model, x).distance.double().numpy()
    top = set(true.argsort()[:NEAREST])
    near = true <= np.median(true)
    return {
        f"{name}: {column}": value
        for name, length in (
            ("(b) nearest label of another class", other),
            ("(c) DeepFool", estimate),
        )
        for column, value in (
            ("of the 9 nearest points, found", len(top & set(length.argsort()[:NEAREST]))),
            ("estimate / true distance, median", float(np.median(length / true))),
            ("the same, nearer half of the points", float(np.median((length / true)[near]))),
        )
    }


def measured_learning(seeds: int = SEEDS) -> dict[str, float]:
    """Return the mean accuracy after three queries of three points, and its deviation."""
    found = {}
    for name, values in learning(seeds).items():
        found[f"{name}: mean"] = float(np.mean(values))
        found[f"{name}: standard deviation"] = float(np.std(values, ddof=1))
    return found


def measured_digit(changes: Mapping[str, Tensor]) -> dict[str, float]:
    """Return the lengths of the changes of one digit."""
    found = {}
    for name, r in changes.items():
        found[f"{name}: ‖r‖₂"] = float(r.norm())
        found[f"{name}: largest change of a pixel"] = float(r.abs().max())
    return found


def measured_transfer(changed: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Return the share of images whose class changes, by network and length of the change."""
    return {
        f"{name}: {factor:g} distances": share
        for name, shares in changed.items()
        for factor, share in zip(FACTORS, shares, strict=True)
        if factor in {FACTORS[0], 2.0, 4.0}
    }
