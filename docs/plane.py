"""Points in the plane for the pictures of the docs: three bent arms, one a class.

In the plane the decision boundary of a network can be drawn, and the distance to it measured, so
that what strategies estimate can be compared with the truth.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from contourpy import contour_generator
from drawing import CLASSES, MARKERS, REGION
from matplotlib.axes import Axes
from numpy.typing import NDArray
from torch import Tensor, nn

import dfal

LIMITS = (-1.7, 1.7)
"""Of both coordinates in the pictures."""
TRAINING = dfal.Training(epochs=150, learning_rate=0.02, training_batch=64)


def network() -> nn.Sequential:
    """Make a small network."""
    hidden = (nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU())
    return nn.Sequential(*hidden, nn.Linear(32, 3))


def points(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return n points, and the class of each."""
    rng = np.random.default_rng(seed)
    classes = rng.integers(0, 3, n)
    along, across = np.abs(rng.normal(0.75, 0.25, n)) + 0.05, rng.normal(0, 0.1, n)
    angle = 2 * np.pi / 3 * classes + 2.6 * along
    x = along * np.cos(angle) - across * np.sin(angle)
    y = along * np.sin(angle) + across * np.cos(angle)
    return torch.tensor(np.stack([x, y], 1), dtype=torch.float32), torch.tensor(classes)


def dropout_network() -> nn.Sequential:
    """Make the same with dropout, which BALD and BatchBALD need."""
    first, second = ((nn.Linear(n, 32), nn.ReLU(), nn.Dropout(0.2)) for n in (2, 32))
    return nn.Sequential(*first, *second, nn.Linear(32, 3))


@dataclass(frozen=True)
class Plane:
    """A pool of points with a network that was trained on the labelled ones.

    Attributes:
        x, y: all points, and their classes.
        pool: which of them are labelled.
        model: the trained network.
    """

    x: Tensor
    y: Tensor
    pool: dfal.Pool
    model: nn.Module

    @classmethod
    def start(
        cls, n: int, each: int, seed: int, make: Callable[[], nn.Module] = network
    ) -> "Plane":
        """Return n points, of which some of each class are labelled, and a trained network."""
        x, y = points(n, 1)
        order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
        first = torch.cat([order[y[order] == k][:each] for k in range(3)])
        pool = dfal.Pool.new(x, {int(i): int(y[i]) for i in first})
        return cls(x, y, pool, fit(pool, seed, make))

    def after(self, query: dfal.Query, seed: int) -> "Plane":
        """Return the next round: the queried points are labelled, and the network trained again."""
        pool = self.pool.learn(query, self.y[query.indices])
        return Plane(self.x, self.y, pool, fit(pool, seed))


def fit(pool: dfal.Pool, seed: int, make: Callable[[], nn.Module] = network) -> nn.Module:
    """Train a network on the labelled points and their twins."""
    return dfal.fit(make, pool.labelled_data(), TRAINING, seed)


def accuracy(model: nn.Module) -> float:
    """Return the share of 3,000 other points that a network classifies correctly."""
    x, y = points(3000, 99)
    return float((classes_of(model, x) == y).float().mean())


@torch.no_grad()
def classes_of(model: nn.Module, x: Tensor) -> Tensor:
    """Return the predicted class of each point."""
    return dfal.logits(model, x).argmax(1)


@dataclass(frozen=True)
class Boundary:
    """The decision boundary of a network on a grid.

    Attributes:
        horizontal, vertical: the coordinates of the grid.
        classes: the predicted class at each of its points.
        lines: pieces of the boundary, each a line of points.
    """

    horizontal: NDArray[np.float64]
    vertical: NDArray[np.float64]
    classes: NDArray[np.int64]
    lines: list[NDArray[np.float64]]

    @classmethod
    @torch.no_grad()
    def of(
        cls, model: nn.Module, size: int, centre: tuple[float, float] = (0, 0), half: float = 2.2
    ) -> "Boundary":
        """Find where the largest two logits are equal, in a square of size × size points."""
        x, y = (c + np.linspace(-half, half, size) for c in centre)
        grid = np.stack(np.meshgrid(x, y), -1).reshape(-1, 2)
        f = dfal.logits(model, torch.tensor(grid, dtype=torch.float32)).double().numpy()
        smallest, lines = f.argmin(1), []
        for k in range(3):  # three classes: the boundary between the two that are not smallest
            i, j = {0, 1, 2} - {k}
            level = np.where(smallest == k, f[:, i] - f[:, j], np.nan).reshape(size, size)
            lines += contour_generator(x, y, np.ma.masked_invalid(level)).lines(0.0)
        return cls(x, y, f.argmax(1).reshape(size, size), lines)

    def nearest(self, x: Tensor) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the distance of each point to the boundary, and the place nearest to it."""
        start = np.concatenate([line[:-1] for line in self.lines])
        way = np.concatenate([np.diff(line, axis=0) for line in self.lines])
        places = []
        for point in x.double().numpy():
            along = ((point - start) * way).sum(1) / np.maximum((way**2).sum(1), 1e-30)
            candidates = start + along.clip(0, 1)[:, None] * way
            places.append(candidates[((point - candidates) ** 2).sum(1).argmin()])
        nearest = np.array(places)
        return np.linalg.norm(x.double().numpy() - nearest, axis=1), nearest

    def draw(self, axes: Axes, colour: str, *, regions: bool = True, style: str = "-") -> None:
        """Draw the boundary, and the regions of the classes if wanted."""
        if regions:
            axes.contourf(
                self.horizontal,
                self.vertical,
                self.classes,
                [-0.5, 0.5, 1.5, 2.5],
                colors=CLASSES,
                alpha=REGION,
            )
        for line in self.lines:
            axes.plot(*line.T, style, color=colour, linewidth=1.4)


def scatter(axes: Axes, x: Tensor, y: Tensor, size: float, **style: object) -> None:
    """Draw points with the colour and marker of their class."""
    for k, (colour, marker) in enumerate(zip(CLASSES, MARKERS, strict=True)):
        chosen = x[y == k]
        if len(chosen):
            axes.scatter(*chosen.T, s=size, marker=marker, **{"color": colour, **style})
