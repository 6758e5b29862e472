"""What strategies share: draw candidates, look at them in chunks, rank them."""

import warnings
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from dfal.errors import DfalError, first_line
from dfal.nn.features import features
from dfal.nn.inference import default_modes, device_of, predict
from dfal.pool import Pool, check_call
from dfal.query import Query
from dfal.strategies.selection import unit

CHUNK = 4096
"""Images in memory at a time."""


def check_candidates(candidates: int | None) -> None:
    """Raise unless `candidates` is None or at least 1."""
    if candidates is not None and candidates < 1:
        raise DfalError(
            f"candidates = {candidates} leaves nothing to choose from: give 1 or more, or None for"
            " the whole pool"
        )


def sample_candidates(
    pool: Pool, candidates: int | None, k: int, rng: torch.Generator
) -> Int64[Tensor, "n"]:
    """K candidates of U at random and in random order, so that ties are broken at random; at least
    k; None for all."""
    check_call(pool, k, rng)
    unlabelled = pool.unlabelled
    shuffled = unlabelled[torch.randperm(len(unlabelled), generator=rng)]
    return shuffled if candidates is None else shuffled[: max(candidates, k)]


def seed_from(rng: torch.Generator) -> int:
    """A seed for what takes a seed and no generator."""
    return int(torch.randint(2**31, (), generator=rng))


def chunks(
    pool: Pool, indices: Int64[Tensor, "n"], device: torch.device
) -> Iterator[tuple[Int64[Tensor, "m"], Float[Tensor, "m *image"]]]:
    """The images at `indices`, some thousand at a time."""
    for part in indices.split(CHUNK):
        yield part, pool.images.take(part, device)


def all_logits(model: nn.Module, pool: Pool, indices: Int64[Tensor, "n"]) -> Float[Tensor, "n c"]:
    """The network's logits for the images at `indices`, on the CPU."""
    return torch.cat(
        [predict(model, images).cpu() for _, images in chunks(pool, indices, device_of(model))]
    )


def all_features(model: nn.Module, pool: Pool, indices: Int64[Tensor, "n"]) -> Float[Tensor, "n d"]:
    """The network's features of the images at `indices`, on the CPU."""
    return torch.cat(
        [features(model, images).cpu() for _, images in chunks(pool, indices, device_of(model))]
    )


def top_k(
    indices: Int64[Tensor, "n"], scores: Float[Tensor, "n"], k: int, *, largest: bool
) -> Query:
    """Ask about the k with the largest or smallest scores; the earlier wins a tie."""
    order = scores.sort(stable=True, descending=largest).indices[:k]
    return Query(indices[order], scores[order])


@dataclass(frozen=True)
class Choice:
    """A strategy that chooses among candidates.

    Attributes:
        candidates: K, how many images of U are looked at, drawn at random; None for all.
    """

    candidates: int | None = None

    def __post_init__(self) -> None:
        check_candidates(self.candidates)

    @default_modes()
    def __call__(self, model: nn.Module, pool: Pool, k: int, rng: torch.Generator) -> Query:
        drawn = sample_candidates(pool, self.candidates, k, rng)
        return (
            self.choose(model, pool, drawn, min(k, len(drawn)), rng)
            if len(drawn)
            else Query.nothing()
        )

    @abstractmethod
    def choose(
        self, model: nn.Module, pool: Pool, drawn: Int64[Tensor, "n"], k: int, rng: torch.Generator
    ) -> Query:
        """Ask about k of the n ≥ k images drawn, n ≥ 1, in random order."""


@dataclass(frozen=True)
class Ranking(Choice):
    """A strategy that gives each image a score of its own, and asks about the best."""

    largest: ClassVar[bool] = True
    """Whether the largest scores are asked about, rather than the smallest."""

    def choose(
        self, model: nn.Module, pool: Pool, drawn: Int64[Tensor, "n"], k: int, rng: torch.Generator
    ) -> Query:
        return top_k(drawn, self.scores(model, pool, drawn, rng), k, largest=self.largest)

    @abstractmethod
    def scores(
        self, model: nn.Module, pool: Pool, indices: Int64[Tensor, "n"], rng: torch.Generator
    ) -> Float[Tensor, "n"]:
        """The score of each of these images, on the CPU."""


def check_space(space: str) -> None:
    """Raise unless `space` is a word that `embedded` knows, or looks like a file."""
    if space not in {"features", "pixels"} and not space.endswith(".npy"):
        raise DfalError(
            f"space = {space!r} is neither 'features', 'pixels', nor a FILE.npy with one row for"
            " each image"
        )


def embed(
    model: nn.Module, pool: Pool, indices: Int64[Tensor, "n"], space: str
) -> Float[Tensor, "n d"]:
    """Images as rows of length 1 in a space where near means alike.

    Args:
        model: whose features are taken.
        pool: has the images.
        indices: which images.
        space: "features" of the network; "pixels"; or a FILE.npy of shape (N, d) with a row for
            each image of the data set, say from a self-supervised network. It is mapped, not read.

    Raises:
        DfalError: for a file that cannot be read, has another shape, or holds NaN.
    """
    if space == "features":
        return unit(all_features(model, pool, indices))
    if space == "pixels":
        return unit(
            torch.cat(
                [images.flatten(1) for _, images in chunks(pool, indices, torch.device("cpu"))]
            )
        )
    path = Path(space)
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # changed bytes make a header fail in many ways
        what = first_line(error)
        raise DfalError(
            f"the embedding {path} cannot be read ({what}): give a .npy file of shape (N, d)"
        ) from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiub":
        raise DfalError(f"the embedding {path} holds no numbers: give a .npy file of shape (N, d)")
    if array.ndim != 2 or len(array) != len(pool.images):
        raise DfalError(
            f"the embedding {path} has shape {array.shape}, but {len(pool.images)} rows are needed,"
            " one an image"
        )
    rows = torch.from_numpy(np.asarray(array[indices.numpy()], dtype=np.float32))
    if not rows.isfinite().all():
        raise DfalError(f"the embedding {path} holds NaN or infinite values: repair it")
    return unit(rows)


def k_means(
    rows: Float[Tensor, "n d"], clusters: int, seed: int, weights: Float[Tensor, "n"] | None = None
) -> Int64[Tensor, "n"]:
    """The cluster of each row. Many clusters are found in small batches, as exactness would take
    long."""
    from sklearn.cluster import (
        KMeans,
        MiniBatchKMeans,
    )
    from threadpoolctl import threadpool_limits

    many = clusters > 50 and len(rows) > 5000
    method = MiniBatchKMeans if many else KMeans
    with (
        threadpool_limits(1),
        warnings.catch_warnings(),
    ):  # sums do not depend on how many threads there are
        warnings.filterwarnings(
            "ignore", message="Number of distinct clusters"
        )  # duplicated images
        found = method(clusters, n_init=1, random_state=seed).fit_predict(
            rows.numpy(), sample_weight=None if weights is None else weights.numpy()
        )
    return torch.from_numpy(np.asarray(found, dtype=np.int64))
