"""The space in which images are compared."""

import numpy as np
import pytest
import torch
from torch import nn

from dfal.backbones import FeatureClassifier
from dfal.errors import DfalError
from dfal.semisupervised.space import fit_space, principal_components

RNG = np.random.default_rng(0)
FEATURES = (RNG.standard_normal((300, 40)) * np.linspace(1, 9, 40) + 5).astype(np.float32)


@pytest.mark.parametrize("dimensions", [None, 12, 400])
def test_rows_have_length_1_and_are_those_of_the_feature_classifier(
    dimensions: int | None,
) -> None:
    space = fit_space(FEATURES, dimensions)
    rows = space(FEATURES)
    assert rows.dtype == np.float32
    assert rows.shape == (300, min(dimensions or 40, 40))
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, rtol=1e-5)
    head = nn.Linear(rows.shape[1], 3)
    network = FeatureClassifier(
        nn.Flatten(), torch.from_numpy(space.mean), torch.from_numpy(space.projection), head
    )
    logits = network(torch.from_numpy(FEATURES)[:, :, None, None])
    torch.testing.assert_close(logits, head(torch.from_numpy(rows)), rtol=1e-5, atol=1e-5)


def test_distances_are_those_of_standardised_features() -> None:
    rows = fit_space(FEATURES, 40)(FEATURES)
    standard = (FEATURES - FEATURES.mean(0)) / FEATURES.std(0)
    standard /= np.linalg.norm(standard, axis=1, keepdims=True)
    np.testing.assert_allclose(rows @ rows.T, standard @ standard.T, atol=1e-5)


def test_features_that_do_not_vary_do_not_count() -> None:
    constant = np.concatenate([FEATURES, np.full((300, 1), 7, np.float32)], axis=1)
    space = fit_space(constant, None)
    changed = constant.copy()
    changed[:, -1] = 1e4
    np.testing.assert_allclose(space(changed), space(constant), atol=1e-6)


def test_components_of_many_features_are_those_of_the_covariance() -> None:
    scale = np.concatenate([[30, 20, 10], np.ones(2_200)]).astype(np.float32)
    rows = RNG.standard_normal((500, len(scale))).astype(np.float32) * scale
    found = principal_components(rows - rows.mean(0), 3)
    _, _, exact = np.linalg.svd(rows - rows.mean(0), full_matrices=False)
    np.testing.assert_allclose(np.abs(found @ exact[:3].T), np.eye(3), atol=1e-3)


def test_half_precision_is_as_good() -> None:
    space = fit_space(FEATURES, 12)
    np.testing.assert_allclose(space(FEATURES.astype(np.float16)), space(FEATURES), atol=5e-3)


@pytest.mark.parametrize("bad", [np.zeros((0, 3)), np.full((2, 3), np.nan)])
def test_bad_features_are_refused_in_one_sentence(bad: np.ndarray) -> None:
    with pytest.raises(DfalError, match="features"):
        fit_space(bad, None)
