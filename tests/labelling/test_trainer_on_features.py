"""The trainer on features: first questions that cover the folder, a network after each answer, and
the choice of what to learn from."""

import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from dfal import backbones, models
from dfal.backbones import Backbone
from dfal.data.datasets import Dataset
from dfal.labelling.learning import learners
from dfal.labelling.learning.model_file import model_path
from dfal.labelling.learning.trainer import Trainer
from dfal.labelling.photos import Photos
from dfal.labelling.store.session import Session
from dfal.models.predictions import Prediction, label
from labelled import DIGITS, a_session, some_pngs
from stored import rows_of


class Noise(nn.Module):
    """Features that have nothing to do with what an image shows."""

    def forward(self, images: Tensor) -> Tensor:
        rows = images.flatten(1).double().sum(1, keepdim=True) * 1e4
        return torch.sin(rows * torch.arange(1, 17)).float()


def noise(image: tuple[int, int, int] | None = None) -> backbones.Automatic:
    """A stand-in for `dfal.backbones.automatic`."""
    return backbones.Automatic(Backbone("lite2", Noise(), (1, 28, 28), 16), "It is noise.")


def prepared(session: Session, photos: Photos) -> Trainer:
    """A trainer that has all features."""
    trainer = Trainer(session, photos)
    extraction = trainer.learners.extraction
    for _ in photos.folder.decode() if extraction is None else extraction.run(forever=False):
        pass
    settle(trainer, session)
    return trainer


def settle(trainer: Trainer, session: Session) -> None:
    """Wait until all features are taken over."""
    total = int((~session.state.hold_out).sum())
    for learner in trainer.learners.on_features:
        while learner.neighbourhood_size < total:
            learner.refresh(session.state)
            time.sleep(0.01)


def answer(trainer: Trainer, session: Session, truth: dict[str, int], n: int) -> list[str]:
    """Answer n questions, with whatever is due before each; the kinds of the questions."""
    kinds = []
    for _ in range(n):
        step(trainer, session)
        (question,) = session.ask()
        session.tell(question, truth[session.state.paths[question.image]])
        kinds.append(question.kind)
    step(trainer, session)
    return kinds


def step(trainer: Trainer, session: Session) -> None:
    state = session.refresh()
    if trainer.due(state):
        trainer.train()
    elif trainer.cover_due(state):
        trainer.cover(state)


def accuracy(session: Session, truth: dict[str, int]) -> float:
    model = session.refresh().models[-1]
    answers = np.array([truth[session.state.paths[image]] for image in model.watched])
    return float((answers == model.predicted).mean())


def test_each_answer_makes_a_network_and_a_ranking(tmp_path: Path, digits: Dataset) -> None:
    truth = some_pngs(tmp_path / "photos", digits, 300)
    with a_session(tmp_path / "photos", backbone="pixels") as (session, photos):
        trainer = prepared(session, photos)
        kinds = answer(trainer, session, truth, 30)
        state = session.refresh()
        first = kinds.index("strategy")
        assert set(kinds[:first]) <= {"coverage", "hold-out"}
        assert first <= 4, "as soon as two classes have a label"
        assert [model.last_answer_id for model in state.models] == [*range(first, 31)]
        queued = [image for image, _ in state.queue]
        assert queued
        assert not state.hold_out[queued].any()
        assert (state.labels[queued] == -1).all()
        assert accuracy(session, truth) > 0.5
        assert state.learner is not None
        assert (state.learner.backbone, state.learner.why) == (
            "pixels",
            "as chosen with --backbone",
        )


def test_the_saved_model_predicts_what_the_trainer_predicts(
    tmp_path: Path, digits: Dataset
) -> None:
    truth = some_pngs(tmp_path / "photos", digits, 200)
    with a_session(tmp_path / "photos", backbone="pixels") as (session, photos):
        trainer = prepared(session, photos)
        answer(trainer, session, truth, 20)
        trainer.model_file.save()
        saved = models.load(model_path(session.path))
        assert saved.card.network == "pixels"
        assert saved.card.classes == DIGITS
        model = session.refresh().models[-1]
        paths = [tmp_path / "photos" / session.state.paths[image] for image in model.watched]
        predicted = [p.label for p in label(saved, paths) if isinstance(p, Prediction)]
        expected = [DIGITS[k] for k in model.predicted]
        agreeing = sum(a == b for a, b in zip(predicted, expected, strict=True))
        assert agreeing >= 0.99 * len(expected), "half precision may change one on the boundary"


def test_the_saved_model_has_the_pixels_beside_its_features(
    tmp_path: Path, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The trainer takes the pixels from small images, the model from those of the backbone."""
    automatic = backbones.Automatic(backbones.load("lite0", (3, 40, 40)))
    monkeypatch.setattr(backbones, "automatic", lambda image: automatic)
    truth = some_pngs(tmp_path / "photos", digits, 120)
    with a_session(tmp_path / "photos", backbone="auto") as (session, photos):
        trainer = prepared(session, photos)
        answer(trainer, session, truth, 20)
        trainer.model_file.save()
        saved = models.load(model_path(session.path))
        assert saved.card.network == "lite0+pixels"
        model = session.refresh().models[-1]
        paths = [tmp_path / "photos" / session.state.paths[image] for image in model.watched]
        predicted = [p.label for p in label(saved, paths) if isinstance(p, Prediction)]
        expected = [DIGITS[k] for k in model.predicted]
        agreeing = sum(a == b for a, b in zip(predicted, expected, strict=True))
        assert agreeing >= 0.95 * len(expected)


def test_a_network_is_saved_when_nobody_answers(tmp_path: Path, digits: Dataset) -> None:
    truth = some_pngs(tmp_path / "photos", digits, 100)
    with a_session(tmp_path / "photos", backbone="pixels") as (session, photos):
        trainer = prepared(session, photos)
        answer(trainer, session, truth, 8)
        path = model_path(session.path)
        assert models.load(path).card.annotations < 7, "that of the first network"
        assert not trainer.save_due()
        trainer._quiet_since -= 60
        assert trainer.save_due()
        trainer.model_file.save()
        assert not trainer.save_due()
        trained_on = session.state.trained_on & session.state.annotated
        assert models.load(path).card.annotations == trained_on.sum()


def test_a_trainer_that_is_started_again_learns_the_same(tmp_path: Path, digits: Dataset) -> None:
    truth = some_pngs(tmp_path / "photos", digits, 200)
    with a_session(tmp_path / "photos", backbone="pixels") as (session, photos):
        trainer = prepared(session, photos)
        answer(trainer, session, truth, 25)
        before = session.refresh().models[-1].predicted
        again = prepared(session, photos)
        step(again, session)
        after = session.refresh().models[-1]
        assert (after.predicted == before).mean() > 0.99, "up to rounding"
        assert after.last_answer_id == 25
        assert not again.due(session.refresh())


def test_an_answer_that_is_taken_back_is_forgotten(tmp_path: Path, digits: Dataset) -> None:
    truth = some_pngs(tmp_path / "photos", digits, 200)
    with a_session(tmp_path / "photos", backbone="pixels", holdout=0.0) as (session, photos):
        trainer = prepared(session, photos)
        answer(trainer, session, truth, 20)
        before = session.refresh().models[-1].predicted
        (question,) = session.ask()
        wrong = (truth[session.state.paths[question.image]] + 1) % 10
        session.tell(question, wrong)
        step(trainer, session)
        session.undo()
        session.leave()
        step(trainer, session)
        after = session.refresh().models[-1].predicted
        assert (after == before).mean() > 0.99, "up to rounding"


@pytest.mark.parametrize(("mode", "first"), [("RGB", "lite2"), ("L", "lite2+pixels")])
def test_auto_learns_from_what_predicts_the_labels(
    tmp_path: Path, digits: Dataset, monkeypatch: pytest.MonkeyPatch, mode: str, first: str
) -> None:
    monkeypatch.setattr(backbones, "automatic", noise)
    truth = some_pngs(tmp_path / "photos", digits, 300)
    for path in (tmp_path / "photos").iterdir():
        Image.open(path).convert(mode).save(path)
    with a_session(tmp_path / "photos", backbone="auto") as (session, photos):
        trainer = prepared(session, photos)
        assert trainer.learners.backbone == "lite2"
        answer(trainer, session, truth, 4)
        learner = session.refresh().learner
        assert learner is not None
        assert learner.backbone == first, "before anything is known"
        answer(trainer, session, truth, 46)
        learner = session.refresh().learner
        assert learner is not None
        assert learner.backbone == "lite2+pixels"
        assert learner.why.startswith("lite2+pixels predicts ")
        assert ", lite2 " in learner.why
        assert learner.why.endswith(". It is noise.")
        assert accuracy(session, truth) > 0.45, "half of what is compared is noise"
        rows = rows_of(session.path, "SELECT backbone FROM learners")
        assert {name for (name,) in rows} == {first, "lite2+pixels"}


def test_a_network_from_scratch_is_tried(
    tmp_path: Path, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backbones, "automatic", lambda image: None)
    truth = some_pngs(tmp_path / "photos", digits, 200)
    with a_session(tmp_path / "photos", backbone="auto") as (session, photos):
        trainer = prepared(session, photos)
        answer(trainer, session, truth, 45)
        state = session.refresh()
        assert trainer.trial_due(state), "features are learnt from meanwhile"
        trainer.trial(state)
        assert not trainer.trial_due(state), "until there are more labels"
        step(trainer, session)
        learner = session.refresh().learner
        assert learner is not None
        assert "a network from scratch " in learner.why
        assert learner.why.endswith("hard images, which are asked about most, count less")
        folds = trainer.learners._folds
        assert {*folds} == {"none", "pixels"}
        labelled = np.flatnonzero(state.trained_on)
        unlabelled = np.flatnonzero((state.labels < 0) & ~state.hold_out)
        for validation in folds.values():
            assert validation.images[validation.is_labelled].tolist() == labelled.tolist()
            assert validation.images[~validation.is_labelled].tolist() == unlabelled.tolist()
            assert validation.right > 0.3 * validation.count


class Broken(nn.Module):
    """Fails, as a network does on too little memory."""

    def forward(self, images: Tensor) -> Tensor:
        raise RuntimeError("no memory")


def test_without_features_auto_learns_from_pixels(
    tmp_path: Path, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = backbones.Automatic(Backbone("lite2", Broken(), (1, 28, 28), 16))
    monkeypatch.setattr(backbones, "automatic", lambda image: broken)
    monkeypatch.setattr(learners, "REFRESH_SECONDS", 0.0)
    truth = some_pngs(tmp_path / "photos", digits, 80)
    with a_session(tmp_path / "photos", backbone="auto") as (session, photos):
        trainer = Trainer(session, photos)
        assert trainer.learners.extraction is not None
        for _ in trainer.learners.extraction.run(forever=False):
            pass
        assert "no memory" in session.refresh().error
        while not any(learner.is_ready for learner in trainer.learners.on_features):
            trainer.learners.refresh(session.state)
        answer(trainer, session, truth, 20)
        learner = session.refresh().learner
        assert learner is not None
        assert learner.backbone == "pixels"
