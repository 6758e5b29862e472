"""Train a linear layer on labels that spread over the neighbour graph of a pool of features."""

import numpy as np
import torch
from torch import nn

from dfal.data.image_array import Images
from dfal.errors import DfalError
from dfal.nn.networks import is_linear
from dfal.pool import Pool
from dfal.semisupervised import FewLabelLearner, Neighbourhood, Space
from dfal.semisupervised.graph import nearest, normalised
from dfal.semisupervised.neighbourhood import NEIGHBOURS

_LAST: list[tuple[Images, Neighbourhood]] = []
"""The images of the last pool, and their graph."""


def fit_spread(model: nn.Module, pool: Pool, classes: int) -> nn.Module:
    """Give a linear layer the weights that the labels of a pool lead to, spread over all of it.

    Pseudo-labels count as labels. Twins are in no graph, and train the layer alone.

    Args:
        model: one linear layer of rows of features.
        pool: of these rows. Its unlabelled rows are used, and have no labels that could be.
        classes: how many there are.

    Returns:
        The same network, in evaluation mode.

    Raises:
        DfalError: for any other network.
    """
    if not is_linear(model):
        raise DfalError(
            "labels spread to train a linear layer, and this network is none: leave out --model, or"
            " --unlabelled"
        )
    learner = FewLabelLearner(_neighbourhood(pool.images), classes)
    labels = pool.labels.numpy().copy()
    labels[pool.guessed.numpy()] = pool.guesses.numpy()
    if len(pool.twins):
        learner.append(pool.twins.numpy())
    learned = learner.update(np.concatenate([labels, pool.labels[pool.twinned].numpy()]))
    (layer,) = [layer for layer in model.modules() if isinstance(layer, nn.Linear)]
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(learned.head.weight))
        layer.bias.copy_(torch.from_numpy(learned.head.bias))
    return model.eval()


def _neighbourhood(images: Images) -> Neighbourhood:
    """Return the graph of rows of features, which is computed once for all trials on them."""
    last = _LAST[0][0] if _LAST else None
    if last is None or last.array is not images.array or last.rows is not images.rows:
        m = images.shape[0]
        # The rows are in their space already; rounded, they are not quite of unit length.
        space = Space(np.zeros(m, np.float32), np.eye(m, dtype=np.float32))
        rows = space(images.raw(np.arange(len(images))))
        _LAST[:] = [(images, Neighbourhood(space, rows, normalised(nearest(rows, NEIGHBOURS))))]
    return _LAST[0][1]
