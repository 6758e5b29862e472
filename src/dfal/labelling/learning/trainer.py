"""What a session's networks learn, how they rank the images that are left, and which labels they
doubt."""

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float64, Int64
from scipy.special import softmax
from torch import Tensor, nn

from dfal import models
from dfal.errors import DfalError
from dfal.labelling.learning.doubts import doubtful
from dfal.labelling.learning.models import Learner
from dfal.labelling.learning.progress import curve, hold_out_labels
from dfal.labelling.photos import Photos
from dfal.labelling.store.records import Judgement, Model, RankedImage
from dfal.labelling.store.session import Session
from dfal.labelling.store.state import State
from dfal.models import calibration
from dfal.nn.inference import predict
from dfal.pool import Pool
from dfal.query import DECLINED, UNKNOWN, Query
from dfal.seeding import derive_seed, generator
from dfal.stats.agreement import ENOUGH

WATCHED = 1000
"""Images drawn at random at which every network looks."""
FOLDS = 3
"""Networks for the review, each of which judges the part of the labels that it was not trained
on."""
QUIET = 4.0
"""Seconds without an answer after which even a few of them are worth a training, or the review its
networks."""
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
        self._learner = Learner(session, photos)
        self._tried = self._reviewed = -1
        self._saved: tuple[nn.Module, models.ModelCard] | None = None
        self._temperature: float | None = None  # of the review's networks
        self._last_answer_id, self._since = -1, 0.0

    def due(self, state: State) -> bool:
        """Whether a new network is worth it: a batch of answers came, or a few and then none."""
        if state.last_answer_id != self._last_answer_id:
            self._last_answer_id, self._since = state.last_answer_id, time.monotonic()
        last = max(state.models[-1].last_answer_id if state.models else -1, self._tried)
        taught = state.labels[state.trained_on]
        if len(np.unique(taught)) < 2 or state.last_answer_id <= last:
            return False
        if not state.models:
            return len(taught) >= state.settings.first
        return state.last_answer_id - last >= state.settings.batch or self._quiet()

    def review_due(self, state: State) -> bool:
        """Whether the labels have changed since they were last judged, and nobody is answering just
        now."""
        return (
            bool(state.models)
            and self._quiet()
            and state.models[-1].last_answer_id > self._reviewed
        )

    def _quiet(self) -> bool:
        return time.monotonic() - self._since > QUIET

    def train(self) -> nn.Module:
        """One network, and how it ranks the images.

        Raises:
            DfalError: where the network or the strategy cannot do with these images.
        """
        began = self._clock()
        state, settings = self._session.refresh(), self._session.settings
        self._tried, number = state.last_answer_id, len(state.models) + 1
        classes, last_answer_id, before = (
            len(state.classes),
            state.last_answer_id,
            state.models[-1:],
        )
        taught = int(
            (state.trained_on & state.annotated).sum()
        )  # now: `state` goes on while people label
        self._decode_labelled(state)
        pool = self._pool(state)
        model = self._learner.fit(pool, classes, derive_seed(settings.seed, number, "fit"))
        during = state.last_answer_id - before[0].last_answer_id if before else settings.first
        k = min(2 * settings.batch + during, LONGEST_QUEUE, len(pool.unlabelled))
        strategy = self._learner.strategy()
        query = (
            strategy(model, pool, k, generator(settings.seed, number, "select"))
            if k
            else Query.nothing()
        )
        self._guesses = _guesses(query)
        watched = self._watched(state)
        seen = (
            self._learner.logits(model, pool.images, watched).argmax(1).numpy()
            if len(watched)
            else np.empty(0, np.int64)
        )
        now = self._clock()
        found = Model(
            number,
            now,
            last_answer_id,
            int(state.annotated.sum()),
            pool.labelled_data_size,
            classes,
            now - began,
            watched,
            seen,
        )
        held = np.flatnonzero(state.hold_out & (state.labels >= 0) & self._photos.ready())
        whole = self._learner.whole(model, classes)
        outputs, truth = self._judged(model, pool, held, state)
        temperature = _temperature(outputs, truth) or self._temperature
        self._save(
            whole, self._card(found, taught, temperature)
        )  # first: who hears of a network finds it
        judgements = self._judgements([(model, held)], outputs, truth, pool, temperature)
        self._session.model_outputs.add_model(
            found, list(self._queue(model, pool, query)), judgements
        )
        return whole

    def _save(self, whole: nn.Module, card: models.ModelCard) -> None:
        models.save(whole, card, model_path(self._session.path))
        self._saved = whole, card

    def _card(self, found: Model, taught: int, temperature: float | None) -> models.ModelCard:
        state, settings = self._session.refresh(), self._session.settings
        h, w, c = self._photos.folder.shape
        measured = curve([found], hold_out_labels(state))
        return models.ModelCard(
            classes=tuple(state.classes[: found.classes]),
            image=(c, h, w),
            network=settings.model,
            annotations=taught,
            accuracy=measured[0].value if measured else None,
            interval=(measured[0].low, measured[0].high) if measured else None,
            held_out=measured[0].of if measured else 0,
            about=f"labelled with dfal, strategy {settings.strategy}",
            temperature=temperature,
        )

    def review(self) -> None:
        """Judge each label by a network that was not trained on it, nor on its twin."""
        state, settings = self._session.refresh(), self._session.settings
        self._reviewed = state.models[-1].last_answer_id
        pool, number = self._pool(state), state.models[-1].id
        labelled = np.flatnonzero((state.labels >= 0) & self._photos.ready())
        folds = np.array(
            [derive_seed(settings.seed, int(image), "fold") % FOLDS for image in labelled]
        )
        judges: list[tuple[nn.Module, Int64[np.ndarray, n]]] = []
        judged: list[tuple[Float64[np.ndarray, "n c"], Int64[np.ndarray, n]]] = []
        for fold in range(FOLDS):
            out = labelled[folds == fold]
            without = pool.labels.clone()
            taught = out[state.trained_on[out]]
            without[torch.from_numpy(taught)] = UNKNOWN
            kept = without[pool.twinned] >= 0
            part = dataclasses.replace(
                pool, labels=without, twinned=pool.twinned[kept], twins=pool.twins[kept]
            )
            if len(out) and len(without[without >= 0].unique()) > 1:
                model = self._learner.fit(
                    part, len(state.classes), derive_seed(settings.seed, number, f"fold {fold}")
                )
                judges.append((model, out))
                judged.append(self._judged(model, pool, out, state))
        outputs = np.concatenate([part for part, _ in judged]) if judged else np.empty((0, 2))
        truth = np.concatenate([part for _, part in judged]) if judged else np.empty(0, np.int64)
        self._temperature = _temperature(outputs, truth)
        self._session.model_outputs.add_judgements(
            number, self._judgements(judges, outputs, truth, pool, self._temperature)
        )
        if self._saved and self._saved[1].temperature is None and self._temperature is not None:
            whole, card = self._saved
            self._save(whole, dataclasses.replace(card, temperature=self._temperature))

    def _decode_labelled(self, state: State) -> None:
        for image in np.flatnonzero((state.labels >= 0) & ~self._photos.ready()):
            with suppress(DfalError):  # it is set aside
                self._photos.network_image(int(image))

    def _pool(self, state: State) -> Pool:
        """L and U. What measures accuracy, is not decoded yet, or was lost, is in neither."""
        photos = self._photos
        usable = photos.ready() & ~state.hold_out
        labels = torch.full((len(photos.folder),), DECLINED, dtype=torch.int64)
        labels[torch.from_numpy(np.flatnonzero(usable))] = torch.from_numpy(state.labels[usable])
        images = self._learner.images()
        size = int(np.prod(images.shape))
        stored = {
            image: r
            for image, r in self._session.model_outputs.twins().items()
            if usable[image] and r.size == size
        }
        twins = {
            at: r for at, r in stored.items() if labels[at] >= 0
        }  # people go on: an answer may have come in between
        twinned = torch.tensor(sorted(twins), dtype=torch.int64)
        moved = (
            torch.stack([torch.from_numpy(twins[int(i)]) for i in twinned])
            if len(twinned)
            else torch.empty(0, size)
        )
        guessed = {
            index: label for index, label in self._guesses.items() if labels[index] == UNKNOWN
        }
        return Pool(
            images,
            labels,
            twinned,
            (
                images.take(twinned) + moved.view(-1, *images.shape)
                if len(twinned)
                else torch.empty(0, *images.shape)
            ),
            torch.tensor(list(guessed), dtype=torch.int64),
            torch.tensor(list(guessed.values()), dtype=torch.int64),
            round=len(state.models),
        )

    def _watched(self, state: State) -> Int64[np.ndarray, "w"]:
        """Images drawn at random before anything was asked, as far as they are decoded."""
        drawn = state.sample_order[:WATCHED]
        watched: Int64[np.ndarray, w] = drawn[self._learner.ready()[drawn]]
        return watched

    def _queue(self, model: nn.Module, pool: Pool, query: Query) -> Iterator[RankedImage]:
        if not len(query.indices):
            return
        likely = (
            self._learner.logits(model, pool.images, query.indices.numpy())
            .topk(2, dim=1)
            .indices.tolist()
        )
        twins: dict[int, tuple[Tensor, int]] = {}
        if query.twins is not None and query.twinned is not None and len(query.twinned):
            classes = predict(model, query.twins).argmax(1).tolist()
            change = query.twins - pool.images.take(query.twinned)
            twins = {
                int(at): (r, seen)
                for at, r, seen in zip(query.twinned, change, classes, strict=True)
            }
        for at, score, (seen, second) in zip(
            query.indices.tolist(), query.scores.tolist(), likely, strict=True
        ):
            twin, twin_seen = twins.get(at, (None, None))
            other = second if twin_seen is None or twin_seen == seen else twin_seen
            yield RankedImage(at, score, seen, other, twin, twin_seen)

    def _judged(
        self, model: nn.Module, pool: Pool, images: Int64[np.ndarray, "n"], state: State
    ) -> tuple[Float64[np.ndarray, "n c"], Int64[np.ndarray, "n"]]:
        """Return the logits and the labels of images that the network was not trained on."""
        truth = state.labels[images].copy()  # people go on labelling
        if not len(images):
            return np.empty((0, 2)), truth
        return self._learner.logits(model, pool.images, images).double().numpy(), truth

    def _judgements(
        self,
        judges: Sequence[tuple[nn.Module, Int64[np.ndarray, "_"]]],
        outputs: Float64[np.ndarray, "n c"],
        truth: Int64[np.ndarray, "n"],
        pool: Pool,
        temperature: float | None,
    ) -> list[Judgement]:
        """Return what networks see in images, with the distance to the boundary where they doubt
        the label.

        Args:
            judges: each network with the images that it judges.
            outputs, truth: logits and labels of all these images, in that order.
            temperature: that calibrates the logits; None for raw confidences.
        """
        known = (truth >= 0) & (truth < outputs.shape[1])  # a class may be newer than the network
        doubts = np.zeros(len(truth), bool)
        doubts[known] = doubtful(outputs[known], truth[known])
        confidence = softmax(outputs / (temperature or 1.0), axis=1)
        judgements: list[Judgement] = []
        start = 0
        for model, images in judges:
            rows = slice(start, start + len(images))
            start += len(images)
            suspects = images[doubts[rows]]
            far: dict[int, float] = {}
            if len(suspects):
                x = pool.images.take(torch.from_numpy(suspects))
                distance = self._learner.attack()(model, x).distance
                far = dict(
                    zip(suspects.tolist(), distance.nan_to_num(posinf=0.0).tolist(), strict=True)
                )
            seen, sure = outputs[rows].argmax(1).tolist(), confidence[rows].max(1).tolist()
            judgements += [
                Judgement(i, k, p, far.get(i))
                for i, k, p in zip(images.tolist(), seen, sure, strict=True)
            ]
        return judgements


def _temperature(
    outputs: Float64[np.ndarray, "n c"], truth: Int64[np.ndarray, "n"]
) -> float | None:
    """Return the temperature of logits of images that were not trained on; None where these are too
    few."""
    known = (truth >= 0) & (truth < outputs.shape[1])
    return calibration.temperature(outputs[known], truth[known]) if known.sum() >= ENOUGH else None


def model_path(store: Path) -> Path:
    """Where the latest network of a store lies, to be taken home: beside it."""
    return store.with_name(
        store.name.removesuffix(".db").removesuffix(".labels") + ".model.safetensors"
    )


def _guesses(query: Query) -> dict[int, int]:
    if query.guessed is None or query.guesses is None:
        return {}
    return dict(zip(query.guessed.tolist(), query.guesses.tolist(), strict=True))
