"""A final model learns from every label but the hold-out, and is chosen without the hold-out."""

import hashlib
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

import dfal
from dfal import backbones, models
from dfal.backbones import Backbone
from dfal.errors import DfalError
from dfal.labelling.learning import final, final_choice, final_learners, final_process
from dfal.labelling.learning.final import Report, train_final
from dfal.labelling.learning.final_data import FOLDS, Known
from dfal.labelling.learning.final_settings import FinalSettings
from dfal.labelling.settings import UNLABELLED_TRAINING, Settings
from dfal.labelling.store.session import Session
from dfal.nn.training import fit
from dfal.nn.training_settings import Training
from dfal.pool import LabelledData

SIDE = 24
CLASSES = ["bright", "dark"]
QUICK = Training(epochs=8, training_batch=16)


class Body(nn.Module):
    """A small network that gives 8 features."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 8, 5, 2), nn.BatchNorm2d(8), nn.ReLU())

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.layers(images).mean((2, 3))
        return out


def body(image: tuple[int, int, int] | None = None, **_: Any) -> Backbone:
    torch.manual_seed(0)
    return Backbone("small", Body(), (3, SIDE, SIDE), 8)


def picture(label: int, number: int, kind: str) -> Image.Image:
    """A noisy picture: bright or dark, or brighter on the left or on the right."""
    rng = np.random.default_rng(number)
    pixels = rng.normal(128, 25, (SIDE, SIDE, 3))
    if kind == "side":
        pixels[:, : SIDE // 2] += 50 if label == 0 else -50
    else:
        pixels += 40 if label == 0 else -40
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def a_store(
    folder: Path,
    answers: int,
    *,
    images: int = 0,
    known: int = 0,
    kind: str = "light",
    wrong_hold_out: bool = False,
    **settings: Any,
) -> Path:
    """A store with so many answers, all right but perhaps those about the hold-out."""
    photos = folder / "photos"
    photos.mkdir(exist_ok=True)
    count = images or 2 * answers
    paths = [f"{number:04}.png" for number in range(count)]
    for number, path in enumerate(paths):
        picture(number % 2, number, kind).save(photos / path)
    quick = {"backbone": "pixels", "labels_only": True, "training": QUICK, "seed": 1}
    options: dict[str, Any] = {**quick, **settings}
    store = folder / "photos.labels.db"
    stored = Settings(folder=str(photos), size=SIDE, channels=3, **options)
    labelled = {path: CLASSES[number % 2] for number, path in enumerate(paths[:known])}
    with Session.start(store, stored, paths, CLASSES, labelled) as session:
        for _ in range(answers - known):
            (question,) = session.ask(1)
            label = question.image % 2
            if wrong_hold_out and question.kind == "hold-out":
                label = 1 - label
            session.tell(question, label)
    return store


def tensors(report: Report) -> dict[str, Tensor]:
    return load_file(report.path)


EVERY_IMAGE_WAY = "lenet5 from scratch, on images without a label, too"
NO_TUNING = FinalSettings(fine_tune=False, device="cpu", labels_only=True)


def test_the_hold_out_measures_and_teaches_nothing(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    right = train_final(a_store(tmp_path / "a", 50), settings=NO_TUNING)
    wrong = train_final(a_store(tmp_path / "b", 50, wrong_hold_out=True), settings=NO_TUNING)
    assert right.accuracy is not None
    assert wrong.accuracy is not None
    assert (right.labels, right.accuracy.of) == (40, 10)
    assert right.accuracy.right + wrong.accuracy.right == 10, "the same predictions"
    assert right.accuracy.value > 0.8
    for name, weight in tensors(right).items():
        assert torch.equal(weight, tensors(wrong)[name]), name
    assert {name: each.of for name, each in right.classes.items()}.keys() == {*CLASSES}
    assert sum(each.right for each in right.classes.values()) == right.accuracy.right
    card = models.load(right.path).card
    assert (card.accuracy, card.held_out, card.annotations) == (right.accuracy.value, 10, 40)
    assert card.classes == tuple(CLASSES)
    assert card.interval == (right.accuracy.low, right.accuracy.high)


def is_same(one: Path, other: Path) -> bool:
    """Whether two model files hold the same card and weights, in whatever order."""
    cards = [models.load(path).card for path in (one, other)]
    weights, others = load_file(one), load_file(other)
    return (
        cards[0] == cards[1]
        and weights.keys() == others.keys()
        and all(torch.equal(weights[name], others[name]) for name in weights)
    )


def test_labels_of_folders_count_and_the_same_seed_gives_the_same_model(tmp_path: Path) -> None:
    store = a_store(tmp_path, 40, known=20)
    before = hashlib.sha256(store.read_bytes()).digest()
    with Session.open(store) as session:  # as the page has
        session.claim_page("http://127.0.0.1:8765")
        before = hashlib.sha256(store.read_bytes()).digest()
        first = train_final(store, settings=NO_TUNING)
        assert hashlib.sha256(store.read_bytes()).digest() == before, "the store is only read"
    assert (first.labels, first.annotations) == (36, 16)
    second = train_final(store, tmp_path / "again.safetensors", NO_TUNING)
    assert is_same(first.path, second.path)
    scratch = [
        train_final(
            store, tmp_path / f"{seed}.safetensors", replace(NO_TUNING, backbone="none", seed=seed)
        )
        for seed in (0, 1)
    ]
    assert not is_same(*(report.path for report in scratch)), "its weights are drawn"


def test_each_training_has_a_label_of_each_class() -> None:
    def folds(labels: list[int]) -> list[int]:
        none = np.empty(0, int)
        known = Known(
            classes=("a", "b", "c"),
            train=np.arange(len(labels)),
            train_labels=np.array(labels),
            hold_out=none,
            hold_out_labels=none,
            pool=none,
            annotations=0,
            files=lambda image: Path(f"{image}.png"),
            names=[],
        )
        return [int(fold) for fold in known.folds(seed=0)]

    labels = [0] * 8 + [1] * 2 + [2]
    of = folds(labels)
    assert of[10] == -1, "no network is trained without the only label of class 2"
    for fold in range(FOLDS):
        assert {label for label, own in zip(labels, of, strict=True) if own != fold} == {0, 1, 2}
    assert -1 not in folds([0, 1, 2]), "there must be labels to predict"


def test_the_backbone_is_fine_tuned_where_labels_say_that_it_is_better(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backbones, "load", lambda name, image=None: body())
    store = a_store(tmp_path, 110, images=130, kind="side", backbone="lite0")
    settings = FinalSettings(epochs=3, device="cpu", seed=2)
    outcomes = {}
    for name, is_better in (("tuned", True), ("head", False)):
        monkeypatch.setattr(final_choice, "_is_better", lambda *_, chosen=is_better: chosen)
        outcomes[name] = train_final(store, tmp_path / f"{name}.safetensors", settings)
    tuned, head = tensors(outcomes["tuned"]), tensors(outcomes["head"])
    weight = "body.layers.0.weight"
    assert torch.equal(head[weight], body().network.state_dict()["layers.0.weight"])
    assert not torch.equal(tuned[weight], head[weight])
    assert outcomes["tuned"].network == "small, fine-tuned"
    assert outcomes["head"].network == "a linear layer on small"
    assert outcomes["tuned"].unlabelled > 0
    assert {*outcomes["tuned"].validation} == {"small, fine-tuned", "a linear layer on small"}
    folds = outcomes["tuned"].validation["small, fine-tuned"]
    assert folds.of == pytest.approx(outcomes["tuned"].labels / 4, abs=2)
    assert "of 22 labels that it was not trained on" in outcomes["tuned"].why[-1]


def test_the_better_way_is_the_one_that_is_right_more_often() -> None:
    def validation(right: int) -> final_choice.Validation:
        logits = np.eye(2)[np.array([0] * right + [1] * (10 - right))]
        return final_choice.Validation("", np.arange(10), logits, np.zeros(10, np.int64))

    assert final_choice._is_better(validation(8), validation(7))
    assert not final_choice._is_better(validation(7), validation(7))
    assert not final_choice._is_better(validation(6), validation(7))


@pytest.mark.parametrize(("kind", "suited"), [("light", "photographs"), ("side", "none")])
def test_images_are_mirrored_unless_their_class_depends_on_left_and_right(
    tmp_path: Path, kind: str, suited: str
) -> None:
    store = a_store(tmp_path, 110, kind=kind, backbone="none")
    said: list[str] = []
    settings = FinalSettings(fine_tune=True, device="cpu", labels_only=True)

    def proceed(activity: str, done: int, total: int) -> None:
        said.append(activity)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dfal.labelling.learning.final_learners.SCRATCH_STEPS", 60)
        patch.setattr(final_choice, "_is_better", lambda *_: True)
        report = train_final(store, settings=settings, proceed=proceed)
    assert report.augmentation == suited
    assert ("not mirrored" in report.why[-1]) == (suited == "none")
    assert "training lenet5 from scratch, trained longer, on all labels" in said


def test_auto_takes_what_predicts_the_labels_best(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backbones, "automatic", lambda image: None)
    store = a_store(tmp_path, 60, backbone="auto")
    report = train_final(store, settings=NO_TUNING)
    assert {*report.validation} == {"a linear layer on pixels", "lenet5 from scratch"}
    best = max(report.validation, key=lambda way: report.validation[way].value)
    assert report.network == best
    assert "of 48 labels, predicted by networks trained on the others" in report.why[0]


@pytest.mark.parametrize(
    ("backbone", "size", "side"),
    [("pixels", 0, 24), ("pixels", 32, 32), ("none", 32, 32), ("lite0", 32, 32)],
)
def test_networks_receive_images_of_the_size_that_is_asked_for(
    tmp_path: Path, backbone: str, size: int, side: int
) -> None:
    store = a_store(tmp_path, 20, backbone=backbone)
    report = train_final(store, settings=replace(NO_TUNING, size=size))
    loaded = models.load(report.path)
    assert loaded.card.image == (3, side, side)
    images = torch.rand(2, *loaded.card.image)
    assert dfal.predict(loaded.network, images).shape == (2, 2)


def quick_with_every_image(monkeypatch: pytest.MonkeyPatch, *, is_better: bool) -> None:
    """Let a network that learns from every image be trained in a few steps, and win or lose."""
    monkeypatch.setattr(final_learners, "EVERY_IMAGE_STEPS", 8)
    short = replace(UNLABELLED_TRAINING, training_batch=8, unlabelled_batch=8)
    monkeypatch.setattr(final_learners, "UNLABELLED_TRAINING", short)

    def decided(validation: final_choice.Validation) -> float:
        if validation.way.endswith("without a label, too"):
            return 2.0 if is_better else -1.0
        return float(validation.is_right.mean())

    monkeypatch.setattr(final_choice.Validation, "accuracy", property(decided))


@pytest.mark.parametrize("is_better", [True, False])
def test_images_without_a_label_teach_where_that_is_better(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_better: bool
) -> None:
    quick_with_every_image(monkeypatch, is_better=is_better)
    taught: list[Any] = []

    def noted(*arguments: Any, unlabelled: Any = None, **named: Any) -> Any:
        taught.append(unlabelled)
        return fit(*arguments, unlabelled=unlabelled, **named)

    monkeypatch.setattr(final_learners, "fit", noted)
    store = a_store(tmp_path, 40, backbone="auto")
    with Session.open(store, write=False) as session:
        state = session.state
        images, held_out = len(state.paths), int(state.hold_out.sum())
    (tmp_path / "photos" / "0000.png").unlink()
    monkeypatch.setattr(backbones, "automatic", lambda image: None)
    settings = FinalSettings(fine_tune=False, device="cpu", augment="shapes")
    report = train_final(store, settings=settings)
    ways = {"a linear layer on pixels", "lenet5 from scratch", EVERY_IMAGE_WAY}
    assert {*report.validation} == ways
    assert len({each.of for each in report.validation.values()}) == 1, "on the same labels"
    sizes = {len(each) for each in taught if each is not None}
    assert sizes == {images - held_out - 1}, "neither the hold-out nor what cannot be read"
    assert (report.network == EVERY_IMAGE_WAY) == is_better
    if is_better:
        assert report.unlabelled == images - held_out - 1 - report.labels
        assert report.augmentation == "shapes"
        assert models.load(report.path).card.network == "lenet5"


def test_a_store_that_learns_from_every_image_has_its_final_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = a_store(tmp_path, 40, backbone="none")
    with Session.open(store, person="trainer") as session:
        session.model_outputs.add_learner("none+unlabelled", "it is better")
    quick_with_every_image(monkeypatch, is_better=True)
    monkeypatch.setattr(final_learners, "EVERY_IMAGE_STEPS", 10**6)
    settings = FinalSettings(fine_tune=False, device="cpu", augment="shapes", minutes=0.1)
    report = train_final(store, settings=settings)
    assert {*report.validation} == {report.network}
    assert report.network == "lenet5 from scratch"
    assert report.why[0].startswith(f"{EVERY_IMAGE_WAY} was not tried: ")


def test_too_few_labels_and_too_little_time_are_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = train_final(
        a_store(tmp_path, 40, backbone="none"),
        settings=FinalSettings(device="cpu", labels_only=True),
    )
    assert "32 labels are too few" in few.why[-1]
    (tmp_path / "more").mkdir()
    store = a_store(tmp_path / "more", 110, backbone="none")
    looks = iter(range(0, 10**6, 30))  # half a minute a look
    monkeypatch.setattr("dfal.labelling.learning.final_choice.time.monotonic", lambda: next(looks))
    slow = train_final(store, settings=FinalSettings(device="cpu", minutes=20, labels_only=True))
    assert "would take about" in slow.why[-1]
    assert "--minutes" in slow.why[-1]
    assert slow.network == "lenet5 from scratch"


def test_images_that_cannot_be_read_are_left_out_and_said(tmp_path: Path) -> None:
    store = a_store(tmp_path, 50)
    with Session.open(store) as session:
        broken, missing = np.flatnonzero(session.state.trained_on)[:2].tolist()
    (tmp_path / "photos" / f"{broken:04}.png").write_bytes(b"no image")
    (tmp_path / "photos" / f"{missing:04}.png").unlink()
    report = train_final(store, settings=NO_TUNING)
    assert report.labels == 38
    assert f"left out {broken:04}.png: it is no JPEG" in report.notes[0]
    assert "and 1 more" in report.notes[0]


def test_wrong_stores_are_one_sentence_and_nothing_is_written(tmp_path: Path) -> None:
    store = a_store(tmp_path, 50)
    other = tmp_path / "notes.txt"
    other.write_text("mine")

    def refused(sentence: str, **options: Any) -> None:
        chosen = options.pop("at", store)
        with pytest.raises(DfalError, match=sentence) as raised:
            train_final(chosen, **{"settings": NO_TUNING, **options})
        assert "\n" not in str(raised.value)

    refused("there is no store", at=tmp_path / "none.db")
    refused("is there already and no model of dfal", out=other)
    refused("cannot be written there", out=tmp_path / "no" / "m.safetensors")
    refused("trains a network on pixels, but the backbone", settings=FinalSettings(fit="own:fit"))
    refused("there is no backbone 'lite7'", settings=FinalSettings(backbone="lite7"))
    for name, answers, sentence in (("empty", 0, "has no label"), ("one", 1, "has only labels of")):
        (tmp_path / name).mkdir()
        refused(sentence, at=a_store(tmp_path / name, answers, images=4, holdout=0.0))
    shutil.rmtree(tmp_path / "photos")
    refused("there is no folder .*photos, where the images of .* were")
    assert other.read_text() == "mine"
    assert not [*tmp_path.rglob("*.safetensors"), *tmp_path.rglob("*.part")]


@pytest.mark.parametrize("setting", ["model", "backbone", "fit"])
def test_code_that_only_the_store_names_is_not_run(tmp_path: Path, setting: str) -> None:
    named: dict[str, Any] = {"backbone": "none", setting: "evil:network"}
    store = a_store(tmp_path, 10, **named)
    with pytest.raises(DfalError, match=f"say --{setting} evil:network if its code may be run"):
        train_final(store, settings=NO_TUNING)


def own_fit(make: Any, data: LabelledData, seed: int) -> nn.Module:
    """A training of a user's own: it always says the last class."""
    network = make()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        parameter[-1] = 2.0
    return network  # type: ignore[no-any-return]


def test_a_training_of_ones_own_trains_the_final_model(tmp_path: Path) -> None:
    name = f"{__name__}:own_fit"
    store = a_store(tmp_path, 20, backbone="none", fit=name)
    report = train_final(store, settings=FinalSettings(device="cpu", fit=name))
    assert report.network == f"lenet5, trained by {name}"
    model = models.load(report.path)
    logits = dfal.predict(model.network, torch.rand(3, *model.card.image))
    assert logits.tolist() == [[0.0] * (logits.shape[1] - 1) + [2.0]] * 3


def test_a_process_of_its_own_says_what_it_does(tmp_path: Path) -> None:
    store = a_store(tmp_path, 40)
    training = final_process.start(store, settings=NO_TUNING)
    said = []
    until = time.monotonic() + 240
    while not (status := training.status()).is_over and time.monotonic() < until:
        said.append(status.activity)
        time.sleep(0.02)
    assert status.error == ""
    assert status.report is not None
    assert status.report["labels"] == 32
    assert Path(status.report["path"]).is_file()
    assert said[0] == "starting"
    failed = final_process.start(tmp_path / "none.db")
    while not (status := failed.status()).is_over and time.monotonic() < until:
        time.sleep(0.02)
    assert "there is no store" in status.error


def test_a_training_that_is_ended_leaves_the_model_before_it(tmp_path: Path) -> None:
    store = a_store(tmp_path, 60)
    out = final.final_model_path(store)
    first = train_final(store, settings=NO_TUNING)
    content = first.path.read_bytes()
    settings = FinalSettings(backbone="none", fine_tune=True, seed=5, labels_only=True)
    training = final_process.start(store, settings=settings)
    until = time.monotonic() + 240
    while training.status().activity == "starting" and time.monotonic() < until:
        time.sleep(0.02)
    training.stop()
    assert training.status().error == "the training was ended from outside"
    assert out.read_bytes() == content
    assert [path.name for path in tmp_path.iterdir() if "part" in path.name] == []
