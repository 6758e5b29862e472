"""Training beside the page, in a process of its own, on what is answered so far. The store is all that they share.

The same training, strategies and twins as those of `dfal run`. Where everything but a network's last linear layer is frozen,
the images are replaced by their features, once: a linear layer is trained in no time, and the distance has a closed form.
"""

import dataclasses
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from dfal import models
from dfal.attacks import DeepFool, LinearHead
from dfal.chance import generator, seed_for, seeded
from dfal.images import CHUNK, Images
from dfal.inside import features, predict
from dfal.labelling.photos import Photos
from dfal.labelling.progress import curve, hold_out
from dfal.labelling.session import Look, Queued, Session
from dfal.labelling.state import Model, State
from dfal.networks import build
from dfal.pool import Pool
from dfal.strategies import DFAL, WithTwins, named, with_candidates
from dfal.training import fit
from dfal.types import DECLINED, UNKNOWN, Attack, DfalError, Query, Strategy

WATCHED = 1000
"""Images drawn at random at which every network looks."""
FOLDS = 3
"""Networks for the review, each of which judges the part of the labels that it was not trained on."""
QUIET = 4.0
"""Seconds without an answer after which even a few of them are worth a training, or the review its networks."""
WAIT = 0.2
"""Seconds between two looks at the store."""
LONGEST_QUEUE = 500
"""Images that are ranked at a time."""


class Trainer:
    """Trains the networks of a session, one after another.

    Args:
        session: its own, on the store that the page has open.
        photos: the images of that session.
        clock: gives the time in seconds.
    """

    def __init__(self, session: Session, photos: Photos, clock: Callable[[], float] = time.time):
        self._session, self._photos, self._clock = session, photos, clock
        self._guesses: dict[int, int] = {}
        self._features: Float[np.ndarray, "n d"] | None = None
        self._featured = np.zeros(len(photos.folder), bool)
        self._tried = self._reviewed = -1
        self._heard, self._since = -1, 0.0

    def due(self, state: State) -> bool:
        """Whether a new network is worth it: a batch of answers came, or a few and then none."""
        if state.heard != self._heard:
            self._heard, self._since = state.heard, time.monotonic()
        last = max(state.models[-1].heard if state.models else -1, self._tried)
        taught = state.labels[state.trained_on]
        if len(np.unique(taught)) < 2 or state.heard <= last:
            return False
        if not state.models:
            return len(taught) >= state.settings.first
        return state.heard - last >= state.settings.batch or self._quiet()

    def review_due(self, state: State) -> bool:
        """Whether the labels have changed since they were last judged, and nobody is answering just now."""
        return bool(state.models) and self._quiet() and state.models[-1].heard > self._reviewed

    def _quiet(self) -> bool:
        return time.monotonic() - self._since > QUIET

    def train(self) -> nn.Module:
        """One network, and how it ranks the images.

        Raises:
            DfalError: where the network or the strategy cannot do with these images.
        """
        began = self._clock()
        state, settings = self._session.refresh(), self._session.settings
        self._tried, number = state.heard, len(state.models) + 1
        classes, heard, before = len(state.classes), state.heard, state.models[-1:]
        taught = int((state.trained_on & state.annotated).sum())  # now: `state` goes on while people label
        self._decode_labelled(state)
        pool = self._pool(state)
        model = self._fit(pool, classes, seed_for(settings.seed, number, "fit"))
        during = state.heard - before[0].heard if before else settings.first
        k = min(2 * settings.batch + during, LONGEST_QUEUE, len(pool.unlabelled))
        strategy = self._strategy()
        query = strategy(model, pool, k, generator(settings.seed, number, "select")) if k else Query.nothing()
        self._guesses = _guesses(query)
        watched = self._watched(state)
        seen = (
            self._logits(model, pool, self._photos.place[watched]).argmax(1).numpy() if len(watched) else np.empty(0, np.int64)
        )
        now = self._clock()
        found = Model(
            number, now, heard, int(state.annotated.sum()), pool.labelled_data_size, classes, now - began, watched, seen
        )
        held = np.flatnonzero(state.held & (state.labels >= 0) & self._photos.ready())
        whole = self._whole(model, classes)
        models.save(whole, self._card(found, taught), home(self._session.path))  # first: who hears of a network finds it
        self._session.add_model(found, list(self._queue(model, pool, query)), self._looks(model, pool, held, state))
        return whole

    def _card(self, found: Model, taught: int) -> models.ModelCard:
        state, settings = self._session.refresh(), self._session.settings
        h, w, c = self._photos.folder.shape
        measured = curve([found], hold_out(state))
        return models.ModelCard(
            classes=tuple(state.classes[: found.classes]),
            image=(c, h, w),
            network=settings.model,
            annotations=taught,
            accuracy=measured[0].value if measured else None,
            interval=(measured[0].low, measured[0].high) if measured else None,
            held_out=measured[0].of if measured else 0,
            about=f"labelled with dfal, strategy {settings.strategy}",
        )

    def review(self) -> None:
        """Judge each label by a network that was not trained on it, nor on its twin."""
        state, settings = self._session.refresh(), self._session.settings
        self._reviewed = state.models[-1].heard
        pool, number = self._pool(state), state.models[-1].model
        labelled = np.flatnonzero(state.trained_on & (self._photos.place >= 0) & self._photos.ready())
        folds = np.array([seed_for(settings.seed, int(image), "fold") % FOLDS for image in labelled])
        looks: list[Look] = []
        for fold in range(FOLDS):
            out = labelled[folds == fold]
            without = pool.labels.clone()
            without[torch.from_numpy(self._photos.place[out])] = UNKNOWN
            kept = without[pool.twinned] >= 0
            part = dataclasses.replace(pool, labels=without, twinned=pool.twinned[kept], twins=pool.twins[kept])
            if len(out) and len(without[without >= 0].unique()) > 1:
                model = self._fit(part, len(state.classes), seed_for(settings.seed, number, f"fold {fold}"))
                looks += self._looks(model, pool, out, state)
        self._session.add_looks(number, looks)

    # The session's images have two numbers: the session's, and the folder's, which is the pool's.

    def _decode_labelled(self, state: State) -> None:
        missing = (state.labels >= 0) & ~self._photos.ready() & (self._photos.place >= 0)
        for image in np.flatnonzero(missing):
            with suppress(DfalError):  # it is set aside
                self._photos.seen(int(image))

    def _pool(self, state: State) -> Pool:
        """L and U. What measures accuracy, is not decoded yet, or was lost, is in neither."""
        photos = self._photos
        usable = photos.ready() & ~state.held
        labels = torch.full((len(photos.folder),), DECLINED, dtype=torch.int64)
        labels[torch.from_numpy(photos.place[usable])] = torch.from_numpy(state.labels[usable])
        images = self._images(labels)
        size = int(np.prod(images.shape))
        stored = {int(photos.place[i]): r for i, r in self._session.twins().items() if usable[i] and r.size == size}
        twins = {at: r for at, r in stored.items() if labels[at] >= 0}  # people go on: an answer may have come in between
        twinned = torch.tensor(sorted(twins), dtype=torch.int64)
        moved = torch.stack([torch.from_numpy(twins[int(i)]) for i in twinned]) if len(twinned) else torch.empty(0, size)
        guessed = {index: label for index, label in self._guesses.items() if labels[index] == UNKNOWN}
        return Pool(
            images,
            labels,
            twinned,
            images.take(twinned) + moved.view(-1, *images.shape) if len(twinned) else torch.empty(0, *images.shape),
            torch.tensor(list(guessed), dtype=torch.int64),
            torch.tensor(list(guessed.values()), dtype=torch.int64),
            round=len(state.models),
        )

    def _images(self, labels: Int64[Tensor, "n"]) -> Images:
        """The images, or their features where these are all that a network learns from."""
        images = self._photos.folder.images
        body = self._body()
        if body is None:
            return images
        new = np.flatnonzero(self._photos.folder.ready() & ~self._featured)
        for part in torch.from_numpy(new).split(CHUNK):
            found = features(body, images.take(part)).cpu().numpy()
            if self._features is None:
                self._features = np.zeros((len(images), found.shape[1]), np.float32)
            self._features[part.numpy()] = found
            self._featured[part.numpy()] = True
        if self._features is None:
            raise DfalError("no image is decoded yet")
        return Images(self._features)

    def _body(self) -> nn.Module | None:
        """The network where everything but its last linear layer is frozen; None where more than that is to be trained."""
        model = self._new(2)
        layers = [layer for layer in model.modules() if isinstance(layer, nn.Linear)]
        free = {parameter for parameter in model.parameters() if parameter.requires_grad}
        frozen = any(not parameter.requires_grad for parameter in model.parameters())
        return model if frozen and layers and free <= set(layers[-1].parameters()) else None

    def _new(self, classes: int) -> nn.Module:
        """A network of this session: a frozen part is the same each time."""
        settings, folder = self._session.settings, self._photos.folder
        h, w, c = folder.shape
        with seeded(seed_for(settings.seed, 0, "frozen")):
            return build(settings.model, (c, h, w), classes).to(settings.device)

    def _fit(self, pool: Pool, classes: int, seed: int) -> nn.Module:
        settings, folder = self._session.settings, self._photos.folder
        h, w, c = folder.shape

        def make() -> nn.Module:
            if self._features is not None:
                return nn.Linear(self._features.shape[1], classes)
            return build(settings.model, (c, h, w), classes)

        return fit(make, pool.labelled_data(settings.device), settings.training, seed)

    def _whole(self, model: nn.Module, classes: int) -> nn.Module:
        """The network that takes images, where only its last layer was trained."""
        if self._features is None:
            return model
        whole = self._new(classes)
        last = [layer for layer in whole.modules() if isinstance(layer, nn.Linear)][-1]
        last.load_state_dict(model.state_dict(), strict=False)
        return whole

    def _strategy(self) -> Strategy:
        settings = self._session.settings
        strategy = with_candidates(named(settings.strategy), settings.candidates)
        if self._features is not None and isinstance(strategy, DFAL | WithTwins):
            return dataclasses.replace(strategy, attack=LinearHead())
        return strategy

    def _attack(self) -> Attack:
        return DeepFool() if self._features is None else LinearHead()

    def _logits(self, model: nn.Module, pool: Pool, places: Int64[np.ndarray, "n"]) -> Float[Tensor, "n c"]:
        parts = torch.from_numpy(places).split(CHUNK)
        return torch.cat([predict(model, pool.images.take(part)).cpu() for part in parts])

    def _watched(self, state: State) -> Int64[np.ndarray, "w"]:
        """Images drawn at random before anything was asked, as far as they are decoded."""
        drawn = state.drawn[:WATCHED]
        ready = self._photos.ready()
        if self._features is not None:
            ready &= np.append(self._featured, False)[self._photos.place]
        watched: Int64[np.ndarray, w] = drawn[ready[drawn]]
        return watched

    def _queue(self, model: nn.Module, pool: Pool, query: Query) -> Iterator[Queued]:
        if not len(query.indices):
            return
        image = {int(place): number for number, place in enumerate(self._photos.place)}
        likely = self._logits(model, pool, query.indices.numpy()).topk(2, dim=1).indices.tolist()
        twins: dict[int, tuple[Tensor, int]] = {}
        if query.twins is not None and query.twinned is not None and len(query.twinned):
            classes = predict(model, query.twins).argmax(1).tolist()
            change = query.twins - pool.images.take(query.twinned)
            twins = {int(at): (r, seen) for at, r, seen in zip(query.twinned, change, classes, strict=True)}
        for at, score, (seen, second) in zip(query.indices.tolist(), query.scores.tolist(), likely, strict=True):
            twin, twin_seen = twins.get(at, (None, None))
            other = second if twin_seen is None or twin_seen == seen else twin_seen
            yield Queued(image[at], score, seen, other, twin, twin_seen)

    def _looks(self, model: nn.Module, pool: Pool, images: Int64[np.ndarray, "n"], state: State) -> list[Look]:
        """What a network sees in images; where it contradicts their label, also how far inside its own class they lie."""
        if not len(images):
            return []
        sure, seen = self._logits(model, pool, self._photos.place[images]).softmax(1).max(1)
        against = images[seen.numpy() != state.labels[images]]
        found = self._attack()(model, pool.images.take(torch.from_numpy(self._photos.place[against]))) if len(against) else None
        far = dict(zip(against.tolist(), found.distance.tolist(), strict=True)) if found else {}
        rows = zip(images.tolist(), seen.tolist(), sure.tolist(), strict=True)
        return [Look(i, k, p, far.get(i) if far.get(i) != torch.inf else None) for i, k, p in rows]


def home(store: Path) -> Path:
    """Where the latest network of a store lies, to be taken home: beside it."""
    return store.with_name(store.name.removesuffix(".db").removesuffix(".labels") + ".model.safetensors")


def _guesses(query: Query) -> dict[int, int]:
    if query.guessed is None or query.guesses is None:
        return {}
    return dict(zip(query.guessed.tolist(), query.guesses.tolist(), strict=True))


def work(store: Path, pipe: Connection) -> None:
    """Train for as long as whoever holds the other end of the pipe lives, and tell it what is done now."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(pipe,), daemon=True).start()
    with suppress(OSError, AttributeError):
        os.nice(5)  # who labels comes first
    torch.set_num_threads(max(1, torch.get_num_threads() // 2))
    with Session.open(store, person="trainer") as session:
        photos = Photos.of(session)
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
                    session.add_trouble(text if isinstance(error, DfalError) else f"{type(error).__name__}: {text}")
                time.sleep(WAIT)


def _end_with(pipe: Connection) -> None:
    """The other end is closed when its process ends, however it ended."""
    with suppress(EOFError, OSError):
        while True:
            pipe.recv()
    os._exit(0)


def _decode(session: Session, photos: Photos) -> None:
    """Decode all images, those that are looked at first in the beginning, and set aside what cannot be."""
    state = session.refresh()
    drawn, order = state.drawn[:WATCHED], state.order[:WATCHED]
    first = photos.place[np.concatenate([np.stack([drawn[: len(order)], order[: len(drawn)]], 1).ravel(), drawn, order])]
    try:
        for _ in photos.folder.decode(first[first >= 0].tolist()):
            session.set_aside(photos.set_aside())
    except DfalError as error:
        session.add_trouble(str(error))
