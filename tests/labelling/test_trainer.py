"""The trainer: what it learns from, how it ranks, what it says of labels, and that its failures
stop nobody."""

import itertools
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import softmax
from torch import nn

import dfal
from dfal import models
from dfal.data.datasets import Dataset
from dfal.data.image_array import Images
from dfal.data.image_folder import Folder
from dfal.errors import DfalError
from dfal.labelling.learning.learner import PixelLearner
from dfal.labelling.learning.model_file import model_path
from dfal.labelling.learning.progress import progress
from dfal.labelling.learning.review import review
from dfal.labelling.learning.trainer import Trainer
from dfal.labelling.photos import Photos
from dfal.labelling.store.session import Session
from dfal.models.calibration import temperature
from dfal.nn.training import Training, fit
from labelled import a_session, some_pngs
from stored import rows_of

QUICK = Training(epochs=8)


def answered(session: Session, truth: dict[str, int], n: int) -> None:
    for _ in range(n):
        (question,) = session.ask()
        session.tell(question, truth[session.state.paths[question.image]])


def decoded(photos: Photos) -> Photos:
    for _ in photos.folder.decode():
        pass
    return photos


def test_networks_come_after_the_first_answers_and_each_batch(
    tmp_path: Path, digits: Dataset
) -> None:
    truth = some_pngs(tmp_path / "photos", digits, 100)
    with a_session(tmp_path / "photos", training=QUICK, first=8, batch=5) as (session, photos):
        trainer = Trainer(session, decoded(photos))
        answered(session, truth, 8)
        assert not trainer.due(session.state), "one of eight is held out"
        answered(session, truth, 2)
        assert trainer.due(session.state)
        trainer.train()
        assert not trainer.due(session.refresh())
        answered(session, truth, 4)
        assert not trainer.due(session.state)
        session.model_outputs.add_error("it failed")
        answered(session, truth, 1)
        assert trainer.due(session.state)
        session.undo()
        trainer.train()
        assert session.refresh().error == "", "a network was trained again"
        first, second = session.state.models
        assert (first.annotations, second.annotations) == (10, 14)
        assert second.last_answer_id == session.state.last_answer_id == 16


def test_it_learns_twins_of_what_was_answered_and_ranks_by_distance(
    tmp_path: Path, digits: Dataset
) -> None:
    truth = some_pngs(tmp_path / "photos", digits, 120)
    with a_session(tmp_path / "photos", training=QUICK, batch=10) as (session, photos):
        trainer = Trainer(session, decoded(photos))
        answered(session, truth, 13)
        model = trainer.train()
        rows = rows_of(
            session.path,
            "SELECT image, score, seen, other, twin_seen FROM queue WHERE model = 1 ORDER BY"
            " position",
        )
        assert len(rows) >= 20
        scores = [row[1] for row in rows if row[1] is not None]
        assert scores == sorted(scores)
        assert not any(
            session.state.hold_out[row[0]] or session.state.labels[row[0]] >= 0 for row in rows
        )
        images = photos.folder.images.take(torch.tensor([row[0] for row in rows]))
        seen = dfal.predict(model, images).argmax(1)
        assert [row[2] for row in rows] == seen.tolist()
        found = dfal.DeepFool()(model, images)
        assert scores[:5] == pytest.approx(found.distance[:5].tolist(), rel=1e-4)
        assert all(row[2] != row[3] for row in rows)
        assert [row[4] for row in rows[:5]] == dfal.predict(model, found.images[:5]).argmax(
            1
        ).tolist()
        answered(session, truth, 10)
        twins = session.model_outputs.twins()
        chosen = {
            image
            for image, kind in rows_of(
                session.path,
                "SELECT q.image, q.kind FROM questions q JOIN answers USING (question)",
            )
            if kind == "strategy"
        }
        assert set(twins) == chosen
        assert len(twins) >= 6
        trainer.train()
        last = session.state.models[-1]
        assert last.labelled_data == session.state.trained_on.sum() + len(twins)


def test_an_answer_that_comes_during_a_training_waits_for_the_next(
    tmp_path: Path, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth = some_pngs(tmp_path / "photos", digits, 60)
    with a_session(tmp_path / "photos", training=QUICK, holdout=0.0) as (session, photos):
        trainer = Trainer(session, decoded(photos))
        answered(session, truth, 10)
        trainer.train()
        (question,) = session.ask()
        twins = session.model_outputs.twins

        def late() -> object:
            session.tell(question, 3)
            return twins()

        monkeypatch.setattr(session.model_outputs, "twins", late)
        trainer.train()
        assert session.state.models[-1].last_answer_id == 10
        assert session.state.models[-1].labelled_data == 10
        monkeypatch.undo()
        assert question.image in session.model_outputs.twins()


def test_the_hold_out_is_in_no_training_set(tmp_path: Path, digits: Dataset) -> None:
    truth = some_pngs(tmp_path / "photos", digits, 100)
    with a_session(tmp_path / "photos", training=QUICK, holdout=0.5) as (session, photos):
        trainer = Trainer(session, decoded(photos))
        answered(session, truth, 40)
        pool = trainer._pool(session.state)
        held = np.flatnonzero(session.state.hold_out)
        assert len(held) > 20
        assert not set(pool.labelled.tolist()) & set(held.tolist())
        assert not set(pool.unlabelled.tolist()) & set(held.tolist())
        trainer.train()
        now = progress(session.refresh())
        assert now.curve[-1].of == now.held_out == 20
        assert now.annotations == 40


def test_the_images_that_nobody_labelled_teach_but_those_of_the_hold_out(
    tmp_path: Path, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth = some_pngs(tmp_path / "photos", digits, 100)
    taught: list[int] = []

    def noted(*arguments: Any, unlabelled: Images, **named: Any) -> Any:
        taught.extend(np.asarray(unlabelled.rows).tolist())
        return fit(*arguments, unlabelled=unlabelled, **named)

    monkeypatch.setattr("dfal.labelling.learning.learner.fit", noted)
    training = Training(epochs=1, steps=3, augment="shapes", unlabelled="consistency")
    with a_session(tmp_path / "photos", training=training, first=8, batch=5) as (session, photos):
        trainer = Trainer(session, decoded(photos))
        answered(session, truth, 20)
        trainer.train()
        hold_out = np.flatnonzero(session.state.hold_out)
        assert len(hold_out) >= 4
        assert taught == sorted(set(range(100)) - set(hold_out.tolist()))


def test_the_review_finds_labels_that_are_wrong(tmp_path: Path, digits: Dataset) -> None:
    truth = some_pngs(tmp_path / "photos", digits, 300)
    wrong = {path for place, path in enumerate(truth) if place % 30 == 7}
    known = {path: str((label + 5 * (path in wrong)) % 10) for path, label in truth.items()}
    with a_session(tmp_path / "photos", known, training=Training(epochs=40)) as (session, photos):
        trainer = Trainer(session, decoded(photos))
        trainer.train()
        trainer.review()
        listed = review(session, most=25).images
        assert len(wrong & {one.path for one in listed}) >= 6
        suspicious = review(session, show="suspicious", most=200).images
        assert suspicious == listed[: len(suspicious)]
        assert all(
            one.suspicion >= other.suspicion for one, other in itertools.pairwise(suspicious)
        )


def test_confidences_are_calibrated_on_answers_that_were_not_learnt(
    tmp_path: Path, digits: Dataset
) -> None:
    truth = some_pngs(tmp_path / "photos", digits, 120)
    with a_session(tmp_path / "photos", training=QUICK, holdout=0.5) as (session, photos):
        trainer = Trainer(session, decoded(photos))
        answered(session, truth, 38)
        trainer.train()
        assert models.load(model_path(session.path)).card.temperature is None, (
            "19 answers are too few"
        )
        answered(session, truth, 42)
        model = trainer.train()
        held = np.flatnonzero(session.state.hold_out & (session.state.labels >= 0))
        outputs = (
            dfal.predict(model, photos.folder.images.take(torch.from_numpy(held))).double().numpy()
        )
        wanted = temperature(outputs, session.state.labels[held])
        card = models.load(model_path(session.path)).card
        assert card.held_out == 40
        assert card.temperature == pytest.approx(wanted, rel=0.02)
        sure = dict(rows_of(session.path, "SELECT image, sure FROM looks WHERE model = 2"))
        calibrated = softmax(outputs / card.temperature, axis=1).max(1)
        assert [sure[image] for image in held.tolist()] == pytest.approx(
            calibrated.tolist(), abs=1e-3
        )


def test_without_a_hold_out_the_review_calibrates(tmp_path: Path, digits: Dataset) -> None:
    truth = some_pngs(tmp_path / "photos", digits, 60)
    with a_session(tmp_path / "photos", training=QUICK, holdout=0.0) as (session, photos):
        trainer = Trainer(session, decoded(photos))
        answered(session, truth, 30)
        model = trainer.train()
        assert models.load(model_path(session.path)).card.temperature is None
        trainer.review()
        saved = models.load(model_path(session.path))
        assert saved.card.temperature is not None
        assert saved.card.temperature == trainer._review_temperature
        weights = zip(saved.network.parameters(), model.parameters(), strict=True)
        assert all(torch.equal(one, other) for one, other in weights)
        assert not any(one.suspicion for one in review(session, most=200).images), (
            "8 epochs on 20 images suspect nobody"
        )
        assert review(session, show="suspicious").checked.startswith("Models agree with")
        answered(session, truth, 10)
        trainer.train()
        assert models.load(model_path(session.path)).card.temperature == trainer._review_temperature


def test_the_model_is_taken_home_with_its_card(tmp_path: Path, digits: Dataset) -> None:
    truth = some_pngs(tmp_path / "photos", digits, 60)
    with a_session(tmp_path / "photos", training=QUICK) as (session, photos):
        trainer = Trainer(session, decoded(photos))
        answered(session, truth, 20)
        model = trainer.train()
        saved = models.load(model_path(session.path))
        assert saved.card.annotations == session.state.trained_on.sum() == 16
        assert saved.card.held_out == 4
        images = photos.folder.images.take(torch.arange(20))
        torch.testing.assert_close(
            dfal.predict(saved.network, images), dfal.predict(model, images), rtol=1e-4, atol=1e-4
        )


def test_two_trainers_with_the_same_answers_make_the_same_network(
    tmp_path: Path, digits: Dataset
) -> None:
    truth = some_pngs(tmp_path / "photos", digits, 60)
    with a_session(tmp_path / "photos", training=QUICK) as (session, photos):
        decoded(photos)
        answered(session, truth, 20)
        one = Trainer(session, photos)
        before = session.refresh()
        pool = one._pool(before)
        first, second = (one._learner.fit(pool, 10, 7) for _ in range(2))
        assert all(
            torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True)
        )


NETWORKS = """
import torch
from torch import nn

def frozen(image, classes):
    c, h, w = image
    body = nn.Sequential(nn.Conv2d(c, 8, 5), nn.ReLU(), nn.AvgPool2d(4), nn.Flatten())
    for parameter in body.parameters():
        parameter.requires_grad_(False)
    wide = body(torch.zeros(1, *image)).shape[1]
    return nn.Sequential(body, nn.Linear(wide, classes))

class HeadFirst(nn.Module):
    def __init__(self, body, head):
        super().__init__()
        self.head, self.body = head, body

    def forward(self, x):
        return {"logits": self.head(self.body(x))}

def head_first(image, classes):
    # a head without bias, of one logit for two classes, made before the body
    body, head = frozen(image, classes)
    body.append(nn.Linear(head.in_features, 12).requires_grad_(False))
    return HeadFirst(body, nn.Linear(12, 1 if classes == 2 else classes, bias=False))

def broken(image, classes):
    if classes == 2:
        return nn.Sequential(nn.Flatten(), nn.Linear(image[1] * image[2], classes))
    raise RuntimeError("no weights here\\nmore lines")
"""


@pytest.fixture
def own_networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_networks.py").write_text(NETWORKS)
    monkeypatch.syspath_prepend(tmp_path)
    sys.modules.pop("own_networks", None)


@pytest.mark.usefixtures("own_networks")
def test_a_frozen_network_is_trained_on_features_with_the_closed_form(
    tmp_path: Path, digits: Dataset
) -> None:
    import time

    truth = some_pngs(tmp_path / "photos", digits, 150)
    with a_session(
        tmp_path / "photos", model="own_networks:frozen", training=Training(epochs=20)
    ) as (session, photos):
        trainer = Trainer(session, decoded(photos))
        answered(session, truth, 30)
        whole = trainer.train()
        (row,) = rows_of(
            session.path, "SELECT image, score, seen FROM queue WHERE model = 1 AND position = 0"
        )
        image = photos.folder.images.take(torch.tensor([row[0]]))
        exact = dfal.LinearHead()(whole, image)
        assert row[1] == pytest.approx(float(exact.distance), rel=1e-4)
        assert row[2] == int(dfal.predict(whole, image).argmax())
        assert not next(whole.parameters()).requires_grad
        assert isinstance(trainer._learner.fit(trainer._pool(session.state), 10, 0), nn.Linear)
        answered(session, truth, 10)
        assert session.model_outputs.twins()
        began = time.perf_counter()
        trainer.train()
        assert time.perf_counter() - began < 5
        assert session.state.models[-1].labelled_data > session.state.trained_on.sum()
        question = rows_of(session.path, "SELECT question FROM questions WHERE kind = 'strategy'")[
            0
        ][0]
        assert photos.twin(question, 0, "twin") is None, "a change of features is no picture"


@pytest.mark.usefixtures("own_networks")
@pytest.mark.parametrize("classes", [2, 10])
def test_the_network_that_is_saved_is_the_head_that_was_trained(
    classes: int, tmp_path: Path, digits: Dataset
) -> None:
    """The head has no bias, comes first among the modules, and is one logit for two classes."""
    truth = some_pngs(tmp_path / "photos", digits, 40)
    with a_session(tmp_path / "photos", model="own_networks:head_first") as (session, photos):
        learner = PixelLearner(session, decoded(photos))
        images = learner.images()
        assert images.shape == (12,)
        labels = {place: number % classes for place, number in enumerate(truth.values())}
        head = learner.fit(dfal.Pool.new(images, labels), classes, 0)
        whole = learner.full_network(head, classes)
        rows = torch.arange(40)
        torch.testing.assert_close(
            dfal.predict(whole, photos.folder.images.take(rows)),
            dfal.predict(head, images.take(rows)),
        )
        assert head.bias is None


@pytest.mark.usefixtures("own_networks")
def test_training_that_fails_says_so_and_is_tried_again_with_new_answers(
    tmp_path: Path, digits: Dataset
) -> None:
    truth = some_pngs(tmp_path / "photos", digits, 60)
    with a_session(tmp_path / "photos", model="own_networks:broken", batch=5) as (session, photos):
        trainer = Trainer(session, decoded(photos))
        answered(session, truth, 20)
        with pytest.raises(dfal.DfalError, match=r"own_networks:broken fails .* no weights here"):
            trainer.train()
        assert not trainer.due(session.refresh())
        session.model_outputs.add_error("RuntimeError: no weights here")
        assert progress(session.refresh()).error == "RuntimeError: no weights here"
        answered(session, truth, 5)
        assert trainer.due(session.refresh())


def test_a_strategy_with_guesses_learns_them_for_one_round(tmp_path: Path, digits: Dataset) -> None:
    truth = some_pngs(tmp_path / "photos", digits, 80)
    with a_session(tmp_path / "photos", strategy="ceal", training=QUICK) as (session, photos):
        trainer = Trainer(session, decoded(photos))
        answered(session, truth, 40)
        trainer.train()
        trainer._pseudo_labels = {int(trainer._pool(session.state).unlabelled[0]): 3}
        trainer.train()
        assert session.state.models[-1].labelled_data == session.state.trained_on.sum() + 1


def test_images_whose_places_in_the_folder_have_changed_keep_their_labels(
    tmp_path: Path, digits: Dataset
) -> None:
    import shutil

    truth = some_pngs(tmp_path / "photos", digits, 40)
    with a_session(tmp_path / "photos", training=QUICK) as (session, photos):
        answered(session, truth, 20)
        before = {
            session.state.paths[i]: int(k) for i, k in enumerate(session.state.labels) if k >= 0
        }
    shutil.rmtree(tmp_path / "cache")
    (tmp_path / "photos" / "00000.png").rename(tmp_path / "photos" / "zzz.png")
    with a_session(tmp_path / "photos", training=QUICK) as (session, photos):
        trainer = Trainer(session, decoded(photos))
        pool = trainer._pool(session.state)
        held = {session.state.paths[i] for i in np.flatnonzero(session.state.hold_out)}
        learnt = {photos.folder.paths[int(i)]: int(pool.labels[i]) for i in pool.labelled}
        assert learnt == {
            path: label
            for path, label in before.items()
            if path not in held and path != "00000.png"
        }
        with pytest.raises(DfalError, match="no longer there"):
            photos.original(session.state.paths.index("00000.png"))
        assert session.state.paths == list(photos.folder.paths)
        trainer.train()
    with (
        Folder.open(tmp_path / "photos", tmp_path / "cache", order=["zzz.png"]) as other,
        Session.open(tmp_path / "labels.db") as session,
        pytest.raises(ValueError, match="in the order of the session's paths"),
    ):
        Photos(session, other)


def test_a_training_of_the_users_own_makes_the_networks(tmp_path: Path, digits: Dataset) -> None:
    truth = some_pngs(tmp_path / "photos", digits, 40)
    with a_session(
        tmp_path / "photos", fit="small_networks:constant_fit", strategy="random", holdout=0.0
    ) as (session, photos):
        trainer = Trainer(session, decoded(photos))
        answered(session, truth, 12)
        network = trainer.train()
        assert (session.refresh().models[-1].predicted == 0).all()
        with torch.no_grad():
            logits = network(photos.folder.images.take(torch.arange(3)))
        assert logits[:, 0].tolist() == [12.0] * 3, "it was given the twelve labels"
