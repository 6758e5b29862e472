"""Train a session's networks, rank the images that are left, and judge labels."""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int64
from torch import nn

from dfal.errors import DfalError
from dfal.labelling.learning.comparison import Validation, leaves_little
from dfal.labelling.learning.cross_validation import cross_fit, validate
from dfal.labelling.learning.every_image import EveryImageLearner
from dfal.labelling.learning.feature_learner import FeatureLearner
from dfal.labelling.learning.judging import Evaluation, fit_temperature, judge
from dfal.labelling.learning.learner import Learner
from dfal.labelling.learning.learners import Choice, Learners
from dfal.labelling.learning.model_file import ModelFile, model_path
from dfal.labelling.learning.progress import curve, hold_out_labels
from dfal.labelling.learning.ranking import ranked_images
from dfal.labelling.learning.session_pool import session_pool
from dfal.labelling.photos import Photos
from dfal.labelling.store.records import Model
from dfal.labelling.store.session import Session
from dfal.labelling.store.state import State
from dfal.models import ModelCard
from dfal.pool import Pool
from dfal.query import UNKNOWN, Query
from dfal.seeding import derive_seed, generator

WATCHED_IMAGES = 1000
"""Images drawn at random on which every network is compared with the one before it."""
QUIET_SECONDS = 4.0
"""Seconds without an answer after which a few answers are worth a training, and networks a
review."""
SAVE_SECONDS = 1.0
"""Seconds without an answer after which the latest network is saved, where each answer makes one:
its file is large."""
MAX_QUEUE = 500
"""Images that are ranked at a time."""
SERVE_SECONDS = 0.05
"""Seconds between two looks for new answers during a training that takes long."""


class _PostponedError(Exception):
    """Ends work that can wait, since people have given new answers."""


@dataclass(frozen=True)
class TrainingStart:
    """What a training begins with. The state changes meanwhile: people continue labelling.

    Attributes:
        classes: how many there are.
        last_answer_id: the latest answer.
        annotations: answers that are trained on.
    """

    classes: int
    last_answer_id: int
    annotations: int


class Trainer:
    """Trains the networks of a session, one after another.

    Args:
        session: its own, on the store that the page has open.
        photos: the images of that session.
        clock: gives the time in seconds.
        report: is told what is done, the step of a training that takes long, and their number.

    Attributes:
        learners: what networks are made from.
        model_file: of the latest network.
    """

    def __init__(
        self,
        session: Session,
        photos: Photos,
        clock: Callable[[], float] = time.time,
        report: Callable[[str, int, int], object] = lambda activity, step, steps: None,
    ):
        self._session, self._photos, self._clock, self._report = session, photos, clock, report
        self._pseudo_labels: dict[int, int] = {}
        self.learners = Learners(session, photos)
        self.model_file = ModelFile(model_path(session.path))
        self._trained_size = self._covered_size = 0
        self._covered_answer_id = -1
        self._attempted_answer_id = self._reviewed_answer_id = -1
        self._review_temperature: float | None = None
        self._last_answer_id, self._quiet_since = -1, 0.0
        self._slow_work = ""
        self._served = 0.0
        self._is_compared_anew = False

    @property
    def _learner(self) -> Learner:
        return self.learners.current

    def _teaching(self, state: State) -> Bool[np.ndarray, "n"]:
        """Return which images have a label to learn from, and are there."""
        teaching = state.trained_on
        return teaching & self._learner.ready() if self._learner.is_instant else teaching

    def _notice(self, state: State) -> None:
        """Notice new answers, and take over new features."""
        if state.last_answer_id != self._last_answer_id:
            self._last_answer_id, self._quiet_since = state.last_answer_id, time.monotonic()
            ready, count = self._learner.ready(), len(self._photos.folder)
            labelled = np.flatnonzero((state.labels[:count] >= 0) & ~ready[:count])
            asked = [question.image for question in state.open.values()]
            self.learners.prefer([*labelled.tolist(), *asked])
        self.learners.refresh(state)

    def serve(self) -> bool:
        """Do what is most urgent, and return whether there was anything to do."""
        state = self._session.refresh()
        if self.due(state):
            self._report("training", 0, 0)
            self.train()
        elif self.cover_due(state):
            self.cover(state)
        elif self.save_due():
            self.model_file.save()
        elif self.review_due(state):
            self._report("reviewing", 0, 0)
            self.review()
        elif self._slow_work:
            return False
        elif self.trial_due(state):
            self._report("comparing", 0, 0)
            self.trial(state)
        else:
            return False
        return True

    @contextlib.contextmanager
    def _slowly(self, activity: str) -> Iterator[None]:
        """Let new answers be learnt from during a block that takes long."""
        outer, self._slow_work = self._slow_work, activity
        try:
            yield
        finally:
            self._slow_work = outer

    def _meanwhile(self, step: int, steps: int) -> None:
        """Do between two steps of a slow training what is due.

        Answers that a slow learner would have to learn wait for a training, but for nothing else.

        Raises:
            _PostponedError: where there is something more urgent than the present work.
        """
        if not self._slow_work or time.monotonic() - self._served < SERVE_SECONDS:
            return
        activity = self._slow_work
        self._report(activity, step, steps)
        if activity != "training" and self._learner.is_slow:
            if self.due(self._session.refresh()):
                raise _PostponedError
        else:
            self.serve()
        self._served = time.monotonic()

    def due(self, state: State) -> bool:
        """Return whether to train.

        Features are learnt from after each answer, and when there are many more of them; networks
        on pixels after a batch of new answers, or after a few and a pause.
        """
        self._notice(state)
        learner = self._learner
        if not learner.is_ready:
            return False
        latest = state.models[-1].last_answer_id if state.models else -1
        trained = max(latest, self._attempted_answer_id)
        labels = state.labels[self._teaching(state)]
        if len(np.unique(labels)) < 2 or (self._slow_work == "training" and learner.is_slow):
            return False
        if self._is_compared_anew and not self._slow_work:
            return True
        new = state.last_answer_id - trained
        if isinstance(learner, FeatureLearner):
            return new > 0 or learner.neighbourhood_size != self._trained_size
        if not state.models:
            return new > 0 and len(labels) >= state.settings.first
        return new >= state.settings.batch or (new > 0 and self._is_quiet())

    def cover_due(self, state: State) -> bool:
        """Return whether to rank the images that cover the folder: there is no network yet."""
        learner = self._learner
        if state.models or not isinstance(learner, FeatureLearner) or not learner.is_ready:
            return False
        is_grown = learner.neighbourhood_size != self._covered_size
        return is_grown or state.last_answer_id > self._covered_answer_id

    def cover(self, state: State) -> None:
        """Rank images that cover the folder, to be queried before there is a network."""
        learner, settings = self._learner, self._session.settings
        if not isinstance(learner, FeatureLearner):
            return
        self._covered_size = learner.neighbourhood_size
        self._covered_answer_id = state.last_answer_id
        pool = self._pool(state)
        k = min(settings.first + settings.batch, len(pool.unlabelled))
        if k:
            rng = generator(settings.seed, 0, "select")
            query = learner.strategy()(learner.untrained(len(state.classes)), pool, k, rng)
            self._session.model_outputs.add_coverage(query.indices.tolist())

    def save_due(self) -> bool:
        """Return whether the latest network is not saved, and nobody answers just now."""
        is_pause = time.monotonic() - self._quiet_since > SAVE_SECONDS
        return is_pause and self.model_file.is_behind

    def trial_due(self, state: State) -> bool:
        """Return whether to compare networks on pixels with the features.

        It may take minutes, in which features and quick networks are learnt from as ever.
        """
        is_free = self._is_quiet() or not self._learner.is_slow
        return bool(state.models) and is_free and self.learners.trial_due(state)

    def trial(self, state: State) -> None:
        """Find out how well networks on pixels, and the features, predict the labels."""
        self._decode_labelled(state)
        labels = state.labels.copy()  # people continue labelling
        learners = self.learners.begin_trial(int((labels[state.trained_on] >= 0).sum()))
        folds: dict[str, Validation] = {}
        try:
            with self._slowly("comparing"):
                for learner in learners:
                    if self._is_worth_its_time(learner, state, folds):
                        folds[learner.name] = validate(
                            learner,
                            self._pool(state, learner, labels),
                            len(state.classes),
                            random_order=state.random_order,
                            seed=self._session.settings.seed,
                            proceed=self._meanwhile,
                        )
        except _PostponedError:
            self.learners.abandon_trial()
            return
        self.learners.add_trial(folds)
        self._is_compared_anew = True

    def _is_worth_its_time(
        self, learner: Learner, state: State, folds: Mapping[str, Validation]
    ) -> bool:
        """Return whether to compare a learner whose networks take minutes.

        Args:
            learner: any; all others are worth it.
            state: of the session.
            folds: how well those that were compared before predict the labels.
        """
        if not isinstance(learner, EveryImageLearner):
            return True
        if any(leaves_little(*compared) for compared in folds.items()):
            return False
        pool, seed = self._pool(state, learner), self._seed(0, "prepare")
        return learner.is_affordable(pool, len(state.classes), seed, self._meanwhile)

    def review_due(self, state: State) -> bool:
        """Return whether there are labels that no review has seen, and nobody answers just now.

        During other work that takes long, only a review that takes none is due.
        """
        if not state.models or not self._is_quiet():
            return False
        if self._slow_work and not self._learner.is_instant:
            return False
        return state.models[-1].last_answer_id > self._reviewed_answer_id

    def _is_quiet(self) -> bool:
        return time.monotonic() - self._quiet_since > QUIET_SECONDS

    def train(self) -> nn.Module:
        """Train a network, rank the images with it, and store both.

        Returns:
            The network, which takes images.
        """
        began = self._clock()
        state = self._session.refresh()
        start = TrainingStart(
            classes=len(state.classes),
            last_answer_id=state.last_answer_id,
            annotations=int((state.trained_on & state.annotated).sum()),
        )
        self._attempted_answer_id = start.last_answer_id
        self._decode_labelled(state)
        choice = self._choose(state)
        pool = self._pool(state, choice.learner)
        model = self._fit(choice.learner, pool, start.classes, len(state.models) + 1)
        self._take_over(choice, start)
        number = len(state.models) + 1
        left = self._pool(state) if self._learner.is_slow else pool
        query = self._select(model, left, number=number, state=state)
        watched = self._watched(state)
        predicted = self._learner.logits(model, pool.images, watched).argmax(1).numpy()
        record = Model(
            id=number,
            at=(now := self._clock()),
            last_answer_id=start.last_answer_id,
            annotations=int(state.annotated.sum()),
            labelled_data=pool.labelled_data_size,
            classes=start.classes,
            seconds=now - began,
            watched=watched,
            predicted=predicted,
        )
        hold_out = np.flatnonzero(state.hold_out & (state.labels >= 0) & self._learner.ready())
        evaluation = self._evaluate(model, pool, hold_out, state)
        temperature = fit_temperature([evaluation]) or self._review_temperature
        network = self._learner.full_network(model, start.classes)
        self.model_file.keep(network, self._card(record, start.annotations, temperature))
        if not self._learner.is_instant or not self.model_file.is_there:
            # The file is written before the row: whoever reads of a network finds it.
            self.model_file.save()
        self._session.model_outputs.add_model(
            record,
            ranked_images(self._learner, model, pool, query),
            judge([evaluation], pool.images, self._learner.attack(), temperature),
        )
        return network

    def _choose(self, state: State) -> Choice:
        """Choose what to learn from, but not while something else is about to take over."""
        if self._slow_work:
            return Choice(self._learner, state.learner.why if state.learner else "")
        self._is_compared_anew = False
        usable = state.trained_on & self._photos.ready()
        labels = np.where(usable, state.labels, UNKNOWN)[: len(self._photos.folder)]
        return self.learners.choose(labels, len(state.classes))

    def _fit(self, learner: Learner, pool: Pool, classes: int, number: int) -> nn.Module:
        """Train a network, and let the present learner learn new answers where that takes long."""
        seed = self._seed(number, "fit")
        if not learner.is_slow:
            return learner.fit(pool, classes, seed)
        with self._slowly("training"):
            return learner.fit(pool, classes, seed, proceed=self._meanwhile)

    def _take_over(self, choice: Choice, start: TrainingStart) -> None:
        """Let a learner rank the images from now on, and say why."""
        self.learners.current = choice.learner
        self._attempted_answer_id = start.last_answer_id
        self._session.model_outputs.add_learner(choice.learner.name, choice.why)
        if isinstance(choice.learner, FeatureLearner):
            self._trained_size = choice.learner.neighbourhood_size

    def review(self) -> None:
        """Judge each label by a network that was trained neither on it nor on its twin."""
        state = self._session.refresh()
        latest, learner = state.models[-1], self._learner
        pool, classes = self._pool(state), len(state.classes)
        labelled = np.flatnonzero((state.labels >= 0) & learner.ready())
        try:
            with self._slowly("reviewing"):
                evaluations = [
                    self._evaluate(model, pool, images, state)
                    for images, model in cross_fit(
                        learner,
                        pool,
                        labelled,
                        classes,
                        seed=self._session.settings.seed,
                        number=latest.id,
                        proceed=self._meanwhile,
                    )
                ]
        except _PostponedError:
            return
        self._reviewed_answer_id = latest.last_answer_id
        temperature = self._review_temperature = fit_temperature(evaluations)
        self._session.model_outputs.add_judgements(
            latest.id, judge(evaluations, pool.images, self._learner.attack(), temperature)
        )
        if temperature is not None:
            self.model_file.calibrate(temperature)

    def _seed(self, number: int, purpose: str) -> int:
        return derive_seed(self._session.settings.seed, number, purpose)

    def _decode_labelled(self, state: State) -> None:
        for image in np.flatnonzero((state.labels >= 0) & ~self._photos.ready()):
            with suppress(DfalError):  # it is set aside
                self._photos.network_image(int(image))

    def _pool(
        self,
        state: State,
        learner: Learner | None = None,
        labels: Int64[np.ndarray, "n"] | None = None,
    ) -> Pool:
        """Return L and U.

        Args:
            state: of the session.
            learner: whose images are in it; the present one by default.
            labels: those of the state by default.
        """
        return session_pool(
            self._session,
            self._photos,
            learner or self._learner,
            labels=state.labels if labels is None else labels,
            pseudo_labels=self._pseudo_labels,
            state=state,
        )

    def _select(self, model: nn.Module, pool: Pool, *, number: int, state: State) -> Query:
        """Return the images to query next, and keep the pseudo-labels for the next training."""
        settings = self._session.settings
        new_answers = settings.first
        if state.models:
            new_answers = state.last_answer_id - state.models[-1].last_answer_id
        batches = 4 if self._learner.is_slow else 2
        k = min(batches * settings.batch + new_answers, MAX_QUEUE, len(pool.unlabelled))
        query = Query.nothing()
        if k:
            rng = generator(settings.seed, number, "select")
            query = self._learner.strategy()(model, pool, k, rng)
        self._pseudo_labels = {}
        if query.guessed is not None and query.guesses is not None:
            pairs = zip(query.guessed.tolist(), query.guesses.tolist(), strict=True)
            self._pseudo_labels = dict(pairs)
        return query

    def _watched(self, state: State) -> Int64[np.ndarray, "w"]:
        """Return images drawn at random before anything was asked, as far as they are decoded."""
        drawn = state.sample_order[:WATCHED_IMAGES]
        watched: Int64[np.ndarray, w] = drawn[self._learner.ready()[drawn]]
        return watched

    def _evaluate(
        self, model: nn.Module, pool: Pool, images: Int64[np.ndarray, "n"], state: State
    ) -> Evaluation:
        labels = state.labels[images].copy()  # people continue labelling
        logits = self._learner.logits(model, pool.images, images).double().numpy()
        return Evaluation(model, images, logits, labels)

    def _card(self, record: Model, annotations: int, temperature: float | None) -> ModelCard:
        state, settings = self._session.refresh(), self._session.settings
        measured = curve([record], hold_out_labels(state))
        return ModelCard(
            classes=tuple(state.classes[: record.classes]),
            image=self._learner.image_shape,
            network=self._learner.network_name,
            annotations=annotations,
            accuracy=measured[0].value if measured else None,
            interval=(measured[0].low, measured[0].high) if measured else None,
            held_out=measured[0].of if measured else 0,
            about=f"labelled with dfal, strategy {settings.strategy_on(state.backbone)}",
            temperature=temperature,
        )
