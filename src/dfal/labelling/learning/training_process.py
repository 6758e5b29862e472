"""Decode, train and review in a process of its own, as long as the page lives.

It shares nothing with the page but the store.
"""

import math
import os
import signal
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import torch

from dfal.errors import DfalError, first_line
from dfal.labelling.learning.extraction import FeatureExtraction
from dfal.labelling.learning.trainer import WATCHED_IMAGES, Trainer
from dfal.labelling.photos import Photos
from dfal.labelling.store.session import Session

POLL_SECONDS = 0.05
"""Seconds between two readings of the store where there is nothing to do."""


@dataclass(frozen=True)
class TrainerStatus:
    """What the trainer does now.

    Attributes:
        doing: "starting", "waiting", "training", "comparing", "reviewing", or "" where there is no
            trainer.
        step, steps: of a training that takes long, and how many it has; 0 where none does.
        backbone: whose features are computed; empty where none are.
        features_done, features_total: images that have features, and all that can have some.
    """

    doing: str = ""
    step: int = 0
    steps: int = 0
    backbone: str = ""
    features_done: int = 0
    features_total: int = 0


def work(pipe: Connection, store: Path) -> None:
    """Train for as long as the page lives, and send it a word for what is done now."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # ending the page ends this process
    with suppress(OSError, AttributeError):
        os.nice(5)  # the page must answer without delay
    torch.set_num_threads(max(1, torch.get_num_threads() // 2))
    with Session.open(store, person="trainer") as session:
        photos = Photos.open(session)
        sent = TrainerStatus()

        def report(activity: str, step: int = 0, steps: int = 0) -> None:
            nonlocal sent
            features, backbone = trainer.learners.progress(), trainer.learners.backbone
            # A tenth of the steps is as much as a page can show.
            step -= step % max(1, steps // 10)
            status = TrainerStatus(activity, step, steps, backbone, features.done, features.total)
            if status != sent:
                sent = status
                pipe.send(status)

        trainer = Trainer(session, photos, report=report)
        reading = (session, photos, trainer.learners.extraction)
        threading.Thread(target=_decode, args=reading, daemon=True).start()
        while True:
            try:
                if not trainer.serve():
                    report("waiting")
                    time.sleep(POLL_SECONDS)
            except Exception as error:
                text = str(error)
                if not isinstance(error, DfalError):
                    text = f"{type(error).__name__}: {first_line(error)}"
                with suppress(DfalError):
                    session.model_outputs.add_error(text)
                time.sleep(POLL_SECONDS)


def _decode(session: Session, photos: Photos, extraction: FeatureExtraction | None = None) -> None:
    """Decode all images, and compute their features, first those that are needed first.

    Those that cannot be read are set aside, and restored when they can. What cannot be read just
    now, because the folder is away, is tried again as long as the page lives.
    """
    state = session.refresh()
    watched, asked = state.sample_order[:WATCHED_IMAGES], state.random_order[:WATCHED_IMAGES]
    alternating = np.stack([watched[: len(asked)], asked[: len(watched)]], 1).ravel()
    order = np.concatenate([alternating, watched, asked])
    decoding = (
        photos.folder.decode(order.tolist(), patience=math.inf)
        if extraction is None
        else extraction.run(order.tolist())
    )
    try:
        for _ in decoding:
            session.model_outputs.set_aside(photos.set_aside())
            session.model_outputs.restore(photos.ready())
    except DfalError as error:
        session.model_outputs.add_error(str(error))
