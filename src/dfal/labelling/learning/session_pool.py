"""The pool that a session's networks are trained on and select from."""

from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Float, Int64

from dfal.labelling.learning.learner import Learner
from dfal.labelling.photos import Photos
from dfal.labelling.store.session import Session
from dfal.labelling.store.state import State
from dfal.pool import Pool
from dfal.query import DECLINED, UNKNOWN


def session_pool(
    session: Session,
    photos: Photos,
    learner: Learner,
    *,
    labels: Int64[np.ndarray, "n"],
    pseudo_labels: Mapping[int, int],
    state: State,
) -> Pool:
    """Return L and U.

    Images of the hold-out, and those that a network cannot take, are in neither.

    Args:
        session: whose twins are in it, of images that have labels.
        photos: its images.
        learner: whose form of the images is in it.
        labels: of all images.
        pseudo_labels: image → class, of images that may have a label by now.
        state: of the session.
    """
    usable = photos.ready() & ~state.hold_out
    if learner.is_instant:
        usable &= learner.ready()
    known = torch.full((len(photos.folder),), DECLINED, dtype=torch.int64)
    known[torch.from_numpy(np.flatnonzero(usable))] = torch.from_numpy(labels[usable])
    images = learner.images()
    # On features there are none: they would be of an earlier space. Where unlabelled images
    # teach, random changes of images take their place.
    stored = {} if learner.is_instant or learner.is_slow else session.model_outputs.twins()
    changes = {
        image: change
        for image, change in sorted(stored.items())
        # the label may be newer than the pool
        if usable[image] and change.size == int(np.prod(images.shape)) and known[image] >= 0
    }
    twinned = torch.tensor([*changes], dtype=torch.int64)
    twins: Float[torch.Tensor, t * image] = torch.empty(0, *images.shape)
    if changes:
        r = torch.from_numpy(np.stack([*changes.values()]))
        twins = images.take(twinned) + r.view(-1, *images.shape)
    open_ = {image: label for image, label in pseudo_labels.items() if known[image] == UNKNOWN}
    return Pool(
        images,
        known,
        twinned,
        twins,
        torch.tensor([*open_], dtype=torch.int64),
        torch.tensor([*open_.values()], dtype=torch.int64),
        round=len(state.models),
    )
