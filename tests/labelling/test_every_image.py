"""Learning from the images without a label while nobody waits: who takes over, what is learnt
meanwhile, and what the hold-out has to do with it."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dfal import models
from dfal.data.datasets import Dataset
from dfal.data.image_array import Images
from dfal.labelling.learning import every_image, learners, trainer
from dfal.labelling.learning.every_image import EveryImageLearner
from dfal.labelling.learning.model_file import model_path
from dfal.labelling.learning.trainer import Trainer
from dfal.labelling.photos import Photos
from dfal.labelling.settings import EVERY_IMAGE, UNLABELLED_TRAINING, Settings
from dfal.labelling.store.session import Session
from dfal.nn.training import Training, fit
from dfal.query import DECLINED, UNKNOWN
from labelled import a_session, some_pngs

SHORT = replace(
    UNLABELLED_TRAINING,
    steps=6,
    warm_steps=3,
    training_batch=8,
    unlabelled_batch=8,
    augment="shapes",
)
Report = Callable[[str, int, int], object]


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings of a few steps, which learn nothing and take no time."""
    monkeypatch.setattr(every_image, "UNLABELLED_TRAINING", SHORT)
    monkeypatch.setattr(every_image, "suited_augmentation", lambda *_: "shapes")
    monkeypatch.setattr(every_image, "MIN_STEPS", 1)
    monkeypatch.setattr(trainer, "SERVE_SECONDS", 0.0)
    monkeypatch.setattr(trainer, "QUIET_SECONDS", 50.0)  # how slow the machine is does not matter


def prefer(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Let one win every comparison."""

    def most_accurate(current: str, left_out: Any, folds: Any) -> str:
        return name if name in {**left_out, **folds} else current

    monkeypatch.setattr(learners, "most_accurate", most_accurate)


class Labelling:
    """A session that is answered, and its trainer."""

    def __init__(self, session: Session, photos: Photos, truth: dict[str, int]):
        self.session, self.photos, self.truth = session, photos, truth
        self.reports: list[tuple[str, int, int]] = []
        self.meanwhile: Callable[[], None] = lambda: None
        self.trainer = self.another()

    def another(self) -> Trainer:
        """A trainer that begins with what the store has, and has all images."""

        def report(activity: str, step: int, steps: int) -> None:
            self.reports.append((activity, step, steps))
            if steps:
                self.meanwhile()

        made = Trainer(self.session, self.photos, report=report)
        for _ in self.photos.folder.decode():
            pass
        for learner in made.learners.on_features:
            while learner.neighbourhood_size < int((~self.session.state.hold_out).sum()):
                learner.refresh(self.session.state)
        return made

    def answer(self, n: int) -> None:
        for _ in range(n):
            (question,) = self.session.ask()
            self.session.tell(question, self.truth[self.session.state.paths[question.image]])

    def learn(self) -> None:
        """Do what is due, but no comparison and no review."""
        state = self.session.refresh()
        while self.trainer.due(state):
            self.trainer.train()

    @property
    def learner(self) -> str:
        return self.session.refresh().backbone

    @property
    def why(self) -> str:
        learner = self.session.refresh().learner
        return learner.why if learner else ""


@contextlib.contextmanager
def labelling(
    folder: Path, digits: Dataset, n: int = 80, **settings: object
) -> Iterator[Labelling]:
    truth = some_pngs(folder / "photos", digits, n)
    settings = {"labels_only": False, "training": Training(epochs=5), **settings}
    with a_session(folder / "photos", **settings) as (session, photos):  # type: ignore[arg-type]
        yield Labelling(session, photos, truth)


def test_each_tier_takes_over_where_it_is_better(
    tmp_path: Path, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    with labelling(tmp_path, digits) as now:
        assert now.learner == "pixels", "before there is a network"
        prefer(monkeypatch, "pixels")
        now.answer(20)
        now.learn()
        assert now.learner == "pixels", "from the first answers on"
        assert not now.trainer.trial_due(now.session.state), "there are too few labels"
        now.answer(16)
        now.learn()
        for name in ("none", EVERY_IMAGE):
            now.trainer.learners._tried = 0
            assert now.trainer.trial_due(now.session.state)
            now.trainer.trial(now.session.state)
            assert {*now.trainer.learners._folds} == {"pixels", "none", EVERY_IMAGE}
            prefer(monkeypatch, name)
            now.learn()
            assert now.learner == name
        state = now.session.refresh()
        is_taught = (state.labels < 0) & ~state.hold_out
        labels = state.trained_on.sum()
        assert now.why.startswith(
            f"the network learns from {is_taught.sum()} images without a label, too: "
        )
        assert f" of {labels} labels are predicted in cross-validation, " in now.why
        assert ("training", 0, 3) in now.reports or ("training", 1, 6) in now.reports
        assert {activity for activity, _, steps in now.reports if steps} == {
            "comparing",
            "training",
        }
        assert models.load(model_path(now.session.path)).card.network == "lenet5"
        queued = [image for image, _ in state.queue]
        assert len(queued) >= 10
        assert is_taught[queued].all()
        assert state.settings.strategy_on(state.backbone) == "cluster-margin"


def test_answers_are_learnt_while_it_trains(
    tmp_path: Path, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    with labelling(tmp_path, digits) as now:
        prefer(monkeypatch, EVERY_IMAGE)
        now.answer(36)
        now.learn()
        learnt = []

        def answered() -> None:
            learnt.append(
                now.session.refresh().models[-1].last_answer_id == now.session.state.last_answer_id
            )
            now.answer(1)

        now.meanwhile = answered
        now.trainer.trial(now.session.state)
        assert len(learnt) > 10
        assert all(learnt), "each was learnt before the next step"
        folds = now.trainer.learners._folds
        assert len({validation.count for validation in folds.values()}) == 1, "the same labels"
        steps = len(learnt)
        now.trainer.train()
        state = now.session.refresh()
        assert len(learnt) - steps >= 4
        assert all(learnt)
        assert [model.id for model in state.models] == [*range(1, len(state.models) + 1)]
        assert now.learner == EVERY_IMAGE
        last = state.models[-1].last_answer_id
        assert last == state.last_answer_id - (len(learnt) - steps), "it knows no later ones"
        queued = [image for image, _ in state.queue]
        assert (state.labels[queued] < 0).all(), "what was answered meanwhile is not asked"


def test_labels_are_reviewed_while_networks_are_compared(
    tmp_path: Path, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    with labelling(tmp_path, digits) as now:
        now.answer(36)
        now.learn()
        reviewed = []

        def quiet() -> None:
            reviewed.append(now.trainer._reviewed_answer_id)
            now.trainer._quiet_since -= 60

        now.meanwhile = quiet
        now.trainer.trial(now.session.refresh())
        assert reviewed[0] == -1
        assert reviewed[-1] == now.session.state.last_answer_id, "before the comparison ended"
        assert {name for name, _, _ in now.reports} == {"comparing", "reviewing"}
        assert now.trainer.learners._folds, "the comparison went on"
        judged = now.session.model_outputs.judgements()
        assert len(judged) >= 36 - 1


def test_a_review_waits_for_answers_that_it_would_keep_waiting(
    tmp_path: Path, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    with labelling(tmp_path, digits, batch=4) as now:
        prefer(monkeypatch, EVERY_IMAGE)
        now.answer(36)
        now.learn()
        now.trainer.trial(now.session.state)
        now.learn()
        assert now.learner == EVERY_IMAGE
        now.trainer._quiet_since -= 60
        assert now.trainer.review_due(now.session.refresh())
        now.meanwhile = lambda: now.answer(4)
        models_before = len(now.session.state.models)
        now.trainer.review()
        assert len(now.session.refresh().models) == models_before
        assert now.trainer._reviewed_answer_id == -1, "it is to be done later"
        now.meanwhile = lambda: None
        assert now.trainer.serve(), "the answers come first"
        assert len(now.session.refresh().models) == models_before + 1
        now.trainer._quiet_since -= 60
        now.trainer.review()
        assert now.trainer._reviewed_answer_id == now.session.state.models[-1].last_answer_id


def test_a_trainer_that_is_started_again_goes_on_with_it(
    tmp_path: Path, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    with labelling(tmp_path, digits) as now:
        prefer(monkeypatch, EVERY_IMAGE)
        now.answer(36)
        now.learn()
        now.trainer.trial(now.session.state)
        now.learn()
        why, count = now.why, len(now.session.state.models)
        monkeypatch.undo()
        monkeypatch.setattr(every_image, "UNLABELLED_TRAINING", SHORT)
        monkeypatch.setattr(every_image, "suited_augmentation", lambda *_: "shapes")
        now.trainer = now.another()
        assert not now.trainer.due(now.session.refresh()), "its ranking is in the store"
        now.answer(10)
        now.learn()
        assert now.learner == EVERY_IMAGE, "although nothing is compared yet"
        assert now.why == why
        assert len(now.session.state.models) == count + 1


def test_the_pixels_of_the_hold_out_do_not_teach(
    tmp_path: Path, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    taught: list[list[int]] = []

    def noted(*arguments: Any, unlabelled: Images, **named: Any) -> Any:
        taught.append(np.asarray(unlabelled.rows).tolist())
        return fit(*arguments, unlabelled=unlabelled, **named)

    monkeypatch.setattr(every_image, "fit", noted)
    with labelling(tmp_path, digits) as now:
        now.answer(36)
        now.trainer.trial(now.session.refresh())
        hold_out = np.flatnonzero(now.session.state.hold_out).tolist()
        assert len(hold_out) > 10
        assert len(taught) >= 3
        assert all(rows == sorted({*range(80)} - {*hold_out}) for rows in taught)


def test_it_starts_from_the_network_before_until_a_class_is_new(
    tmp_path: Path, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts: list[Any] = []

    def noted(*arguments: Any, start: Any = None, **named: Any) -> Any:
        starts.append(start)
        return fit(*arguments, start=start, **named)

    with labelling(tmp_path, digits) as now:
        now.answer(30)
        learner = now.trainer.learners.on_every_image
        assert isinstance(learner, EveryImageLearner)
        pool = now.trainer._pool(now.session.refresh(), learner)
        assert learner.is_affordable(pool, 10, 0)
        monkeypatch.setattr(every_image, "fit", noted)
        first = learner.fit(pool, 10, 0)
        other = learner.fit(pool, 10, 0, fold=1)
        learner.fit(pool, 10, 0, fold=1)
        learner.fit(pool, 10, 0)
        assert starts[:2] == [None, None], "a fold starts from nothing that knows its labels"
        for start, model in zip(starts[2:], (other, first), strict=True):
            assert all((start[name] == value).all() for name, value in model.state_dict().items())
        learner.fit(pool, 11, 0)
        assert starts[-1] is None, "the network has a class more"
        learner.fit(pool, 11, 0)
        assert starts[-1] is not None
        class_ = int(pool.labels[pool.labelled[0]])
        fewer = pool.labels.clone()
        fewer[fewer == class_] = UNKNOWN
        learner.fit(replace(pool, labels=fewer), 11, 0)
        assert starts[-1] is None, "labels that were learnt are left out"
        learner.fit(pool, 11, 0)
        assert starts[-1] is None, "a class has its first label"
        declined = pool.labels.clone()
        declined[pool.labelled[0]] = DECLINED
        learner.fit(replace(pool, labels=declined), 11, 0)
        assert starts[-1] is not None


def test_what_takes_too_long_is_not_tried(
    tmp_path: Path, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(every_image, "MAX_SECONDS", 1e-6)
    monkeypatch.setattr(every_image, "MIN_STEPS", 3)
    with labelling(tmp_path, digits) as now:
        now.answer(36)
        now.learn()
        now.trainer.trial(now.session.refresh())
        assert {*now.trainer.learners._folds} == {"pixels", "none"}


@pytest.mark.parametrize("little", [False, True])
def test_it_is_not_tried_where_the_labels_are_predicted_already(
    little: bool, tmp_path: Path, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "leaves_little", lambda name, _: little and name == "none")
    with labelling(tmp_path, digits) as now:
        now.answer(36)
        now.learn()
        now.trainer.trial(now.session.refresh())
        assert (EVERY_IMAGE in now.trainer.learners._folds) != little


def test_stores_of_earlier_versions_learn_from_labels_alone() -> None:
    stored = Settings().to_dict()
    assert Settings.from_dict(stored) == Settings()
    assert Settings().learns_from_every_image
    assert Settings().training.steps == 500
    del stored["labels_only"], stored["training"]["steps"]
    earlier = Settings.from_dict(stored)
    assert not earlier.learns_from_every_image
    assert earlier.training.steps == 0


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"backbone": "none"}, (True, "pixels")),
        ({"backbone": "auto"}, (True, "auto")),
        ({"backbone": "lite0"}, (False, "lite0")),
        ({"backbone": "none", "labels_only": True}, (False, "none")),
        ({"backbone": "none", "model": "mine:network"}, (False, "none")),
        ({"backbone": "none", "fit": "mine:fit"}, (False, "none")),
        ({"backbone": "none", "training": SHORT}, (False, "none")),
    ],
)
def test_networks_of_ones_own_are_trained_as_told(
    settings: dict[str, Any], expected: tuple[bool, str]
) -> None:
    chosen = Settings(**settings)
    assert (chosen.learns_from_every_image, chosen.first_backbone) == expected
