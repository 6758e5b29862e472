"""The space in which images are compared: standardised features, projected, of unit length."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32

from dfal.errors import DfalError

SAMPLE_ROWS = 20_000
"""Rows from which mean, deviation and components are estimated."""

EXACT_FEATURES = 2_048
"""Up to that many features the components come from their whole covariance."""

CHUNK_ROWS = 8_192
"""Rows in memory in full precision at a time."""


@dataclass(frozen=True)
class Space:
    """A map from features x to z = P (x − μ) / ‖P (x − μ)‖.

    `dfal.backbones.FeatureClassifier` computes the same from `mean` and `projection`.

    Attributes:
        mean: μ.
        projection: P.
    """

    mean: Float32[np.ndarray, "d"]
    projection: Float32[np.ndarray, "m d"]

    def __call__(self, features: Float[np.ndarray, "n d"]) -> Float32[np.ndarray, "n m"]:
        """Return z of each row; a row equal to μ stays 0.

        Args:
            features: in any precision, a memory map too.
        """
        out = np.empty((len(features), len(self.projection)), np.float32)
        for start in range(0, len(features), CHUNK_ROWS):
            chunk = np.asarray(features[start : start + CHUNK_ROWS], np.float32)
            rows = (chunk - self.mean) @ self.projection.T
            # As torch.nn.functional.normalize does.
            rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
            out[start : start + CHUNK_ROWS] = rows
        return out


def fit_space(
    features: Float[np.ndarray, "n d"], dimensions: int | None = 256, *, standardise: bool = True
) -> Space:
    """Estimate the space from features of unlabelled images.

    Args:
        features: a row for each image.
        dimensions: m, how many principal components to keep, without whitening them; all features
            where there are fewer. None keeps the features as they are.
        standardise: whether each feature is divided by its standard deviation first.

    Raises:
        DfalError: for no row, and for NaN or infinite values.
    """
    if features.ndim != 2 or 0 in features.shape:
        raise DfalError(f"features must be of shape (n, d), but they are of {features.shape}")
    step = max(1, len(features) // SAMPLE_ROWS)
    sample = np.asarray(features[::step][:SAMPLE_ROWS], np.float32)
    if not np.isfinite(sample).all():
        raise DfalError("the features hold NaN or infinite values: compute them again")
    mean = sample.mean(0, dtype=np.float64)
    scale = np.ones_like(mean)
    if standardise:
        deviation = sample.std(0, dtype=np.float64)
        # A feature that hardly varies says nothing, and must not be blown up.
        varies = deviation > 1e-3 * max(float(deviation.max()), 1e-12)
        scale = np.where(varies, 1 / np.where(varies, deviation, 1), 0)
    if dimensions is None:
        projection = np.diag(scale)
    else:
        rows = ((sample - mean) * scale).astype(np.float32)
        projection = principal_components(rows, min(dimensions, rows.shape[1])) * scale
    return Space(mean.astype(np.float32), projection.astype(np.float32))


def joint_space(spaces: Sequence[Space], features: Float[np.ndarray, "n d"]) -> Space:
    """Return a space whose rows are those of several spaces beside each other, counting the same.

    The rows P (x − μ) of each are scaled to a mean square of their lengths of 1, before the whole
    row is scaled to length 1.

    Args:
        spaces: each takes the features behind those of the space before it.
        features: a row for each image.
    """
    step = max(1, len(features) // SAMPLE_ROWS)
    sample = features[::step][:SAMPLE_ROWS]
    projection = np.zeros(
        (sum(len(space.projection) for space in spaces), features.shape[1]), np.float32
    )
    row = column = 0
    for space in spaces:
        height, width = space.projection.shape
        part = np.asarray(sample[:, column : column + width], np.float32)
        squares = np.square((part - space.mean) @ space.projection.T).sum(1).mean()
        scaled = space.projection / max(float(np.sqrt(squares)), 1e-12)
        projection[row : row + height, column : column + width] = scaled
        row, column = row + height, column + width
    return Space(np.concatenate([space.mean for space in spaces]), projection)


def principal_components(
    rows: Float32[np.ndarray, "n d"], count: int
) -> Float[np.ndarray, "count d"]:
    """Return the directions in which centred rows vary most, the first one first.

    Args:
        rows: of mean 0.
        count: how many directions, at most d.
    """
    features = rows.shape[1]
    if features <= EXACT_FEATURES:
        _, vectors = np.linalg.eigh((rows.T @ rows).astype(np.float64))
        components = vectors[:, ::-1][:, :count].T
    else:
        components = _subspace(rows[:: max(1, len(rows) // 4_000)], count)
    # The sign is arbitrary: the largest entry of each is positive.
    largest = np.abs(components).argmax(1)
    components *= np.sign(components[np.arange(len(components)), largest])[:, None]
    return components


def _subspace(rows: Float32[np.ndarray, "n d"], count: int) -> Float[np.ndarray, "count d"]:
    """Return principal components of many features by subspace iteration.

    Source: Halko, Martinsson & Tropp 2011.
    """
    width = min(count + 16, *rows.shape)
    basis = np.random.default_rng(0).standard_normal((rows.shape[1], width)).astype(np.float32)
    for _ in range(4):
        basis, _ = np.linalg.qr(rows.T @ (rows @ basis))
    _, _, right = np.linalg.svd(rows @ basis, full_matrices=False)
    components: Float[np.ndarray, "count d"] = (right @ basis.T)[:count]
    return components
