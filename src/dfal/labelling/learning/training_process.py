"""The training process: it decodes, trains and reviews for as long as the page lives. The store is
all that they share."""

import math
import os
import signal
import threading
import time
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import torch

from dfal.errors import DfalError
from dfal.labelling.learning.trainer import WATCHED, Trainer
from dfal.labelling.photos import Photos
from dfal.labelling.store.session import Session

WAIT = 0.2
"""Seconds between two looks at the store."""


def work(pipe: Connection, store: Path) -> None:
    """Train for as long as the page lives, and send it a word for what is done now."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # ending the page ends this process
    with suppress(OSError, AttributeError):
        os.nice(5)  # who labels comes first
    torch.set_num_threads(max(1, torch.get_num_threads() // 2))
    with Session.open(store, person="trainer") as session:
        photos = Photos.open(session)
        threading.Thread(target=_decode, args=(session, photos), daemon=True).start()
        trainer = Trainer(session, photos)
        said = ""

        def say(word: str) -> None:
            nonlocal said
            if word != said:
                said = word
                pipe.send(word)

        while True:
            try:
                state = session.refresh()
                if trainer.due(state):
                    say("training")
                    trainer.train()
                elif trainer.review_due(state):
                    say("reviewing")
                    trainer.review()
                else:
                    say("waiting")
                    time.sleep(WAIT)
            except Exception as error:
                lines = str(error).strip().splitlines()
                text = lines[0] if lines else "no reason was given"
                with suppress(DfalError):
                    session.model_outputs.add_error(
                        text if isinstance(error, DfalError) else f"{type(error).__name__}: {text}"
                    )
                time.sleep(WAIT)


def _decode(session: Session, photos: Photos) -> None:
    """Decode all images, those that are looked at first in the beginning, set aside what cannot be,
    and take it back when it can. What cannot be read just now, because the folder is away, is tried
    again as long as the page lives.
    """
    state = session.refresh()
    drawn, order = state.sample_order[:WATCHED], state.random_order[:WATCHED]
    first = np.concatenate(
        [np.stack([drawn[: len(order)], order[: len(drawn)]], 1).ravel(), drawn, order]
    )
    try:
        for _ in photos.folder.decode(first.tolist(), patience=math.inf):
            session.model_outputs.set_aside(photos.set_aside())
            session.model_outputs.restore(photos.ready())
    except DfalError as error:
        session.model_outputs.add_error(str(error))
