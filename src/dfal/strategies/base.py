"""What strategies share: sampling candidates, running the network on them, ranking them."""

import warnings
from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from dfal.errors import DfalError, first_line
from dfal.nn.evaluation import default_modes
from dfal.nn.features import features
from dfal.nn.inference import predict
from dfal.nn.network_input import device_of
from dfal.nn.passes import gathered, image_chunks
from dfal.pool import Pool, check_call
from dfal.query import Query
from dfal.semisupervised.space import fit_space
from dfal.strategies.selection import unit

COMPONENTS = 50
"""Principal components of the pixels in which images are compared."""
MINI_BATCH_CLUSTERS, MINI_BATCH_ROWS = 50, 5000
"""More clusters of more rows than these are found by mini-batch k-means."""


def check_candidates(candidates: int | None) -> None:
    """Check that `candidates` is None or at least 1.

    Raises:
        DfalError: where it is not.
    """
    if candidates is not None and candidates < 1:
        raise DfalError(
            f"candidates = {candidates} leaves nothing to choose from: give 1 or more, or None for"
            " the whole pool"
        )


def sample_candidates(
    pool: Pool, candidates: int | None, k: int, rng: torch.Generator
) -> Int64[Tensor, "n"]:
    """Return randomly sampled unlabelled images, in random order so that ties break at random.

    Args:
        pool: whose unlabelled images U are sampled.
        candidates: K, how many to sample, but at least k; None for all of U.
        k: how many images are to be queried.
        rng: decides sample and order.
    """
    check_call(pool, k, rng)
    unlabelled = pool.unlabelled
    shuffled = unlabelled[torch.randperm(len(unlabelled), generator=rng)]
    return shuffled if candidates is None else shuffled[: max(candidates, k)]


def seed_from(rng: torch.Generator) -> int:
    """Draw a seed, for what takes a seed and no generator."""
    return int(torch.randint(2**31, (), generator=rng))


def chunks(
    pool: Pool, indices: Int64[Tensor, "n"], device: torch.device
) -> Iterator[tuple[Int64[Tensor, "m"], Float[Tensor, "m *image"]]]:
    """Yield indices with their images on a device, few enough for the memory."""
    return image_chunks(pool.images, indices, device)


def all_logits(model: nn.Module, pool: Pool, indices: Int64[Tensor, "n"]) -> Float[Tensor, "n c"]:
    """Return the logits of the images at `indices`, on the CPU."""
    passes = chunks(pool, indices, device_of(model))
    return gathered((predict(model, images).cpu() for _, images in passes), len(indices))


def all_features(
    model: nn.Module,
    pool: Pool,
    indices: Int64[Tensor, "n"],
    compute: Callable[[nn.Module, Tensor], Tensor] = features,
) -> Float[Tensor, "n d"]:
    """Return the network's features of the images at `indices`, on the CPU.

    Args:
        model: the network.
        pool: has the images.
        indices: which.
        compute: returns a row for each image of a pass.
    """
    passes = chunks(pool, indices, device_of(model))
    return gathered((compute(model, images).cpu() for _, images in passes), len(indices))


def top_k(
    indices: Int64[Tensor, "n"], scores: Float[Tensor, "n"], k: int, *, largest: bool
) -> Query:
    """Query the k images with the largest or smallest scores; the earlier one wins a tie."""
    order = scores.sort(stable=True, descending=largest).indices[:k]
    return Query(indices[order], scores[order])


@dataclass(frozen=True)
class Choice:
    """Sample candidates and leave the choice among them to `choose`.

    Attributes:
        candidates: K, how many images of U are considered, sampled at random; None for all.
    """

    candidates: int | None = None

    def __post_init__(self) -> None:
        check_candidates(self.candidates)

    @default_modes()
    def __call__(self, model: nn.Module, pool: Pool, k: int, rng: torch.Generator) -> Query:
        candidates = sample_candidates(pool, self.candidates, k, rng)
        if not len(candidates):
            return Query.nothing()
        return self.choose(model, pool, candidates, min(k, len(candidates)), rng)

    @abstractmethod
    def choose(
        self,
        model: nn.Module,
        pool: Pool,
        candidates: Int64[Tensor, "n"],
        k: int,
        rng: torch.Generator,
    ) -> Query:
        """Query k of the candidates.

        Args:
            model: returns logits; left as it was.
            pool: has the images, and says which are labelled.
            candidates: n ≥ 1 unlabelled images, in random order.
            k: how many to query, at most n.
            rng: decides all that is random.
        """


@dataclass(frozen=True)
class Ranking(Choice):
    """Query the candidates with the best scores; each is scored on its own by `scores`."""

    largest: ClassVar[bool] = True
    """Whether the largest scores are queried, rather than the smallest."""

    def choose(
        self,
        model: nn.Module,
        pool: Pool,
        candidates: Int64[Tensor, "n"],
        k: int,
        rng: torch.Generator,
    ) -> Query:
        scores = self.scores(model, pool, candidates, rng)
        return top_k(candidates, scores, k, largest=self.largest)

    @abstractmethod
    def scores(
        self, model: nn.Module, pool: Pool, indices: Int64[Tensor, "n"], rng: torch.Generator
    ) -> Float[Tensor, "n"]:
        """Return the score of each image at `indices`, on the CPU."""


def check_space(space: str) -> None:
    """Check that `space` is one that `embed` knows, or looks like a file.

    Raises:
        DfalError: where it is not.
    """
    if space not in {"features", "pixels", "components"} and not space.endswith(".npy"):
        raise DfalError(
            f"space = {space!r} is neither 'features', 'pixels', 'components', nor a FILE.npy with"
            " one row for each image"
        )


def embed(
    model: nn.Module, pool: Pool, indices: Int64[Tensor, "n"], space: str
) -> Float[Tensor, "n d"]:
    """Return images as rows of length 1 in a space where similar images are near each other.

    Args:
        model: whose features are taken.
        pool: has the images.
        indices: which images.
        space: "features" of the network; "pixels"; the first principal "components" of the pixels;
            or a FILE.npy of shape (N, d) with a row for each image of the data set, say from a
            self-supervised network.

    Raises:
        DfalError: for a file that cannot be read, has another shape, or holds NaN.
    """
    if space == "features":
        return unit(all_features(model, pool, indices))
    if space in {"pixels", "components"}:
        images = chunks(pool, indices, torch.device("cpu"))
        pixels = gathered((part.flatten(1) for _, part in images), len(indices))
        return unit(pixels) if space == "pixels" else principal_components(pixels)
    return unit(_rows_of_file(Path(space), indices, len(pool.images)))


def principal_components(rows: Float[Tensor, "n d"]) -> Float[Tensor, "n m"]:
    """Return the first principal components of rows, each row scaled to length 1.

    Args:
        rows: such as the pixels of images, of which the components are estimated.
    """
    values = rows.numpy()
    return torch.from_numpy(fit_space(values, COMPONENTS, standardise=False)(values))


def _rows_of_file(path: Path, indices: Int64[Tensor, "n"], images: int) -> Float[Tensor, "n d"]:
    """Return rows of a .npy file that has one for each image; it is mapped, not read whole.

    Raises:
        DfalError: for a file that cannot be read, has another shape, or holds NaN.
    """
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # changed bytes make a header fail in many ways
        raise DfalError(
            f"the embedding {path} cannot be read ({first_line(error)}): give a .npy file of shape"
            " (N, d)"
        ) from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiub":
        raise DfalError(f"the embedding {path} holds no numbers: give a .npy file of shape (N, d)")
    if array.ndim != 2 or len(array) != images:
        raise DfalError(
            f"the embedding {path} has shape {array.shape}, but {images} rows are needed, one an"
            " image"
        )
    rows = torch.from_numpy(np.asarray(array[indices.numpy()], dtype=np.float32))
    if not rows.isfinite().all():
        raise DfalError(f"the embedding {path} holds NaN or infinite values: repair it")
    return rows


def k_means(
    rows: Float[Tensor, "n d"], clusters: int, seed: int, weights: Float[Tensor, "n"] | None = None
) -> Int64[Tensor, "n"]:
    """Return the cluster of each row, 0 ≤ cluster < `clusters`.

    Args:
        rows: the points.
        clusters: how many clusters to form, at most n.
        seed: decides the initial centres.
        weights: how much each row counts; None for all alike.
    """
    from sklearn.cluster import KMeans, MiniBatchKMeans
    from threadpoolctl import threadpool_limits

    many = clusters > MINI_BATCH_CLUSTERS and len(rows) > MINI_BATCH_ROWS
    method = MiniBatchKMeans if many else KMeans
    # With one thread, sums do not depend on how many processors there are.
    with threadpool_limits(1), warnings.catch_warnings():
        # Duplicated images are no mistake.
        warnings.filterwarnings("ignore", message="Number of distinct clusters")
        labels = method(clusters, n_init=1, random_state=seed).fit_predict(
            rows.numpy(), sample_weight=None if weights is None else weights.numpy()
        )
    return torch.from_numpy(np.asarray(labels, dtype=np.int64))
