"""Networks in step learn from changed and unlabelled images as each would on its own."""

import contextlib
import copy
import dataclasses
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from test_keyed_random import plain_bits
from torch import Tensor, nn
from torch.nn import functional as F

import dfal
from dfal.data.datasets import Dataset
from dfal.data.image_array import Images
from dfal.nn import AUGMENTATIONS, consistency, together, training
from dfal.nn.augmentation import DrawnChange
from dfal.nn.mini_batches import epochs
from dfal.nn.stack import StackableTraining
from dfal.nn.stacked_looks import NOISE, STRONG, WEAK, StackedLooks
from dfal.nn.stacked_network import Batch, StackedNetwork, fixed_weights, skeleton, trained_weights
from dfal.nn.together import InThisProcess, Together, Trained, training_together
from dfal.nn.training_steps import shuffled_cycles
from dfal.pool import LabelledData
from dfal.seeding import generator

SLOTS, LABELLED, UNLABELLED, THRESHOLD = 3, 4, 16, 0.4


def small(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    last = nn.Linear(36, 3)
    last.weight.data *= 6  # some predictions are sure
    return nn.Sequential(*(nn.Conv2d(1, 4, 3), nn.Tanh(), nn.AvgPool2d(2), nn.Flatten(), last))


def bytes_of(n: int) -> Tensor:
    rng = torch.Generator().manual_seed(1)
    return torch.randint(256, (n, 1, 8, 8), dtype=torch.uint8, generator=rng)


class Plain:
    """The steps of one network, written down once more without stacks.

    Args:
        model: in float64.
        settings: how it is trained.
        pool: the images without a label.
    """

    def __init__(self, model: nn.Module, settings: dfal.Training, pool: Tensor):
        self.model, self.settings, self.pool = model, settings, pool
        self.mean: Tensor | None = None

    def looks(self, kind: str, images: Tensor, key: list[int]) -> Tensor:
        augmentation = AUGMENTATIONS[self.settings.augment]
        change, first = (
            (augmentation.strong, STRONG)
            if kind == "strong"
            else (
                augmentation.weak,
                WEAK,
            )
        )
        assert isinstance(change, DrawnChange)
        ranges = change.ranges((1, 8, 8))
        numbers: dict[str, Tensor] = {}
        for place, (name, each) in enumerate(ranges.items()):
            draws = [
                (plain_bits(key, first + image * len(ranges) + place) >> 8) / 2**24
                for image in range(len(images))
            ]
            scaled = [each.low + (each.high - each.low) * draw for draw in draws]
            numbers[name] = torch.tensor(
                [math.floor(x) for x in scaled] if each.whole else scaled,
                dtype=torch.int64 if each.whole else torch.float64,
            )
        return change.prepare((1, 8, 8), torch.device("cpu"))(images, numbers)

    def noise(self, count: int, key: list[int]) -> Tensor:
        u, v = (
            [(plain_bits(key, NOISE + i) >> 8) / 2**24 for i in range(begin, begin + count)]
            for begin in (0, count)
        )
        return torch.tensor(
            [
                math.sqrt(-2 * math.log(1 - a)) * math.cos(2 * math.pi * b)
                for a, b in zip(u, v, strict=True)
            ],
            dtype=torch.float64,
        )

    def gradient(
        self, images: Tensor, labels: Tensor, rows: Tensor, key: list[int], complete: bool = True
    ) -> list[Tensor]:
        kind, model = self.settings.unlabelled, self.model
        unlabelled = self.pool[rows].double() / 255
        weak = self.looks("weak", unlabelled, key)
        strong = self.looks("strong", torch.cat([images, unlabelled]), key)
        p = model(weak).softmax(1).detach()
        loss = F.cross_entropy(model(strong[: len(images)]), labels)
        if kind != "vat":
            now = p.mean(0)
            self.mean = now if self.mean is None else 0.99 * self.mean + 0.01 * now
            aligned = p / self.mean
            aligned /= aligned.sum(1, keepdim=True)
            is_sure = aligned.amax(1) >= THRESHOLD
            assert 0 < is_sure.sum() < len(rows)
            each = F.cross_entropy(
                model(strong[len(images) :]), aligned.argmax(1), reduction="none"
            )
            loss = loss + complete * each[is_sure].sum() / len(rows)
        if kind != "pseudo-labels":
            noise = self.noise(weak.numel(), key).view(weak.shape)
            d = 0.1 * noise / noise.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
            nearby = (weak + d).requires_grad_()
            away = F.cross_entropy(model(nearby), p, reduction="sum")
            (slope,) = torch.autograd.grad(away, nearby)
            r = self.settings.radius * slope / slope.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
            loss = loss + F.cross_entropy(model(weak + r), p)
        return list(torch.autograd.grad(loss, list(model.parameters())))


@pytest.mark.parametrize("kind", ["pseudo-labels", "vat", "consistency"])
@pytest.mark.parametrize("augment", ["shapes", "photographs"])
def test_steps_have_the_gradients_of_their_losses(kind: str, augment: str) -> None:
    settings = dfal.Training(
        unlabelled=kind,
        augment=augment,
        training_batch=LABELLED,
        unlabelled_batch=UNLABELLED,
        threshold=THRESHOLD,
        radius=1.5,
    )
    pool, models = bytes_of(40), [small(seed).double() for seed in range(SLOTS)]
    images = torch.rand(SLOTS, LABELLED, 1, 8, 8, dtype=torch.float64)
    labels = torch.tensor([[0, 1, 2, 0], [0, 1, 1, 0], [2, 1, 1, 0]])
    structure = skeleton(models[0].eval())
    assert structure is not None
    network = StackedNetwork(structure, trained_weights(models[0]), {}, images[0])
    looks = StackedLooks(network, settings, SLOTS, images[0, 0], pool)
    for slot in range(SLOTS):
        looks.load(slot, labels[slot])
    vectors = torch.stack([network.flat(trained_weights(model)) for model in models])
    targets = F.one_hot(labels, 3).double()
    batch = Batch(images, targets, torch.full((SLOTS, LABELLED), 1 / LABELLED).double())
    plain = [Plain(model, settings, pool) for model in models]
    rng = torch.Generator().manual_seed(3)
    for _ in range(2):  # the second has a running mean
        rows = torch.randint(len(pool), (SLOTS, UNLABELLED), generator=rng)
        keys = torch.randint(-(2**31), 2**31, (SLOTS, 2), dtype=torch.int32, generator=rng)
        found = network.gradients(vectors, {}, looks(vectors, {}, batch, rows, keys), keys)
        for slot in range(SLOTS):
            want = plain[slot].gradient(
                *(images[slot], labels[slot], rows[slot], keys[slot].tolist()), slot != 1
            )
            own = network.unflat(found[slot])
            for got, reference in zip(own.values(), want, strict=True):
                torch.testing.assert_close(got, reference, rtol=1e-5, atol=1e-7)


def test_a_slot_that_rests_learns_nothing() -> None:
    model, settings = small(), dfal.Training(unlabelled="consistency", unlabelled_batch=8)
    structure = skeleton(model.eval())
    assert structure is not None
    images = torch.rand(1, 4, 1, 8, 8)
    network = StackedNetwork(structure, trained_weights(model), fixed_weights(model), images[0])
    looks = StackedLooks(network, settings, 1, images[0, 0], bytes_of(8))
    looks.load(0, torch.arange(3))
    batch = Batch(images, torch.zeros(1, 4, 3), torch.zeros(1, 4))
    vectors, keys = network.flat(trained_weights(model))[None], torch.ones(1, 2, dtype=torch.int32)
    made = looks(vectors, {}, batch, torch.arange(8)[None], keys)
    assert made.weights.shape == (1, 20)
    assert not made.weights.any()


def data_of(count: int, seed: int) -> LabelledData:
    rng = torch.Generator().manual_seed(seed)
    labels, images = torch.arange(count) % 3, torch.rand(count, 1, 8, 8, generator=rng)
    images[torch.arange(count), 0, labels] += 0.5
    return LabelledData(images.double(), labels, torch.arange(count))


def job(
    settings: dfal.Training, data: LabelledData, seed: int, steps: int = 6
) -> tuple[nn.Module, training._TrainingRun, StackableTraining]:
    pool, none = Images(bytes_of(50)), data.rows(data.labels < 0)
    run = training._TrainingRun(data, none, settings, steps, pool, training._proceed)
    model = small(seed).double()
    made = run.stackable(model, seed)
    assert made is not None
    return model, run, made


def trained(jobs: dict[str, StackableTraining], slots: int) -> dict[str, Trained]:
    trainer = Together(slots)
    for name, each in jobs.items():
        trainer.add(name, each)
    results: dict[str, Trained | None] = {}
    while trainer.busy:
        results |= trainer.advance()
    assert None not in results.values()
    return {name: result for name, result in results.items() if result is not None}


SETTINGS = dfal.Training(
    epochs=1,
    training_batch=8,
    unlabelled="pseudo-labels",
    unlabelled_batch=UNLABELLED,
    threshold=THRESHOLD,
    learning_rate=0.01,
    average=0.9,
    schedule="cosine",
)


def test_a_network_is_trained_as_on_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """From the same mini-batches, without looks, pseudo-labels lead to the same weights."""

    def mini_batches(count: int, settings: dfal.Training, least: int, **_: Any) -> Any:
        return epochs(count, settings, least, rng=generator(5, 0, "mini-batches"))

    def unlabelled(count: int, size: int, rng: torch.Generator) -> Any:
        return shuffled_cycles(count, size, rng=generator(5, 0, "unlabelled"))

    monkeypatch.setattr(training, "epochs", mini_batches)
    monkeypatch.setattr(consistency, "shuffled_cycles", unlabelled)
    model, run, made = job(SETTINGS, data_of(30, 0), 5, steps=40)
    plain = copy.deepcopy(model)
    before = copy.deepcopy(model.state_dict())
    loss = run.train(plain, torch.Generator())[1]
    network, got_loss = run.loaded(model, trained({"": made}, 2)[""])
    assert got_loss == pytest.approx(loss, rel=1e-5)
    for name, want in plain.state_dict().items():
        torch.testing.assert_close(network.state_dict()[name], want, atol=1e-6, rtol=0)
        assert not torch.allclose(before[name], want, atol=1e-3), "it is trained"


def jobs_of_all_kinds() -> dict[str, StackableTraining]:
    both = dataclasses.replace(SETTINGS, unlabelled="consistency", augment="shapes")
    few = data_of(30, 4)
    return {
        "one": job(both, data_of(30, 1), 1)[2],
        "other": job(dataclasses.replace(both, learning_rate=0.1), data_of(9, 2), 2)[2],
        "two classes": job(both, few.rows(few.labels < 2), 3)[2],
        "without average": job(dataclasses.replace(both, average=0.0), data_of(30, 1), 4)[2],
        "looks alone": job(dataclasses.replace(both, unlabelled="none"), data_of(30, 1), 5)[2],
        "vat": job(dataclasses.replace(both, unlabelled="vat"), data_of(30, 1), 6)[2],
    }


def test_the_result_depends_neither_on_others_nor_on_the_slot() -> None:
    jobs = jobs_of_all_kinds()
    alone = {name: trained({name: each}, 4)[name] for name, each in jobs.items()}
    for order, slots in ((list(jobs), 4), (list(reversed(jobs)), 1)):
        beside = trained({name: jobs[name] for name in order}, slots)
        for name, want in alone.items():
            for weight, tensor in want.weights.items():
                torch.testing.assert_close(beside[name].weights[weight], tensor, atol=1e-8, rtol=0)


def test_all_stacks_have_the_unlabelled_images_once(monkeypatch: pytest.MonkeyPatch) -> None:
    jobs, trainer = jobs_of_all_kinds(), Together(2)
    assert trainer.lacks_images(jobs["one"])
    trainer.add("one", jobs["one"])
    for name in ("other", "vat", "without average", "looks alone"):
        assert not trainer.lacks_images(jobs[name])
    named = dataclasses.replace(jobs["vat"].unlabelled, images=None)  # type: ignore[type-var]
    trainer.add("vat", dataclasses.replace(jobs["vat"], unlabelled=named))
    results: dict[str, Trained | None] = {}
    while trainer.busy:
        results |= trainer.advance()
    want = trained({"vat": jobs["vat"]}, 2)["vat"]
    assert results["vat"] is not None
    for weight, tensor in want.weights.items():
        torch.testing.assert_close(results["vat"].weights[weight], tensor)
    with monkeypatch.context() as patched:  # the stack that holds them goes for the next one
        patched.setattr(together, "MOST_STACKS", 1)
        trainer.add("other", dataclasses.replace(jobs["without average"], unlabelled=named))
        assert len(trainer._stacks) == 1
        assert set(trainer.advance()) <= {"other"}
        assert all(trainer._stacks.values()), "it is in a stack"
    trainer._stacks.clear()
    assert trainer.lacks_images(jobs["one"]), "no stack holds them"


def accuracy(
    make: Callable[[], nn.Module],
    data: LabelledData,
    settings: dfal.Training,
    unlabelled: Images,
    test: LabelledData,
    *,
    in_step: bool = True,
) -> float:
    """Return the mean accuracy of the members of an ensemble."""
    trainer = InThisProcess(settings.ensemble)

    def stacked(jobs: Any) -> Any:
        results = trainer(jobs)
        assert results is not None
        return results

    with training_together(stacked) if in_step else contextlib.nullcontext():
        ensemble = dfal.fit(make, data, settings, seed=0, unlabelled=unlabelled)
    predicted = [dfal.predict(each, test.images).argmax(1) for each in ensemble.members]  # type: ignore[union-attr]
    return float(torch.stack([each == test.labels for each in predicted]).float().mean())


def test_few_labels_lead_to_about_the_same_accuracy_as_one_by_one(digits: Dataset) -> None:
    known = {i: int(digits.labels[i]) for i in range(0, 4000, 40)}
    pool = dfal.Pool.new(digits.images, known)
    settings = dfal.Training(
        epochs=1,
        steps=50,
        learning_rate=0.01,
        schedule="cosine",
        average=0.95,
        unlabelled="consistency",
        unlabelled_batch=32,
        augment="shapes",
        ensemble=2,
    )

    def make() -> nn.Module:
        layers = nn.AvgPool2d(2), nn.Conv2d(1, 8, 3, stride=2), nn.ReLU(), nn.Flatten()
        return nn.Sequential(*layers, nn.Linear(288, 10))

    test = digits.test_images.take(torch.arange(len(digits.test_labels)))
    labelled = pool.labelled_data()
    tested = LabelledData(test, digits.test_labels, torch.arange(len(test)))
    alone, beside = (
        accuracy(make, labelled, settings, pool.images, tested, in_step=in_step)
        for in_step in (False, True)
    )
    assert alone > 0.6
    assert abs(alone - beside) < 0.05


def two_moons(n: int, seed: int) -> LabelledData:
    """Two classes along half circles, so that the images between labels say where they run."""
    rng = torch.Generator().manual_seed(seed)
    angle = math.pi * torch.rand(n, generator=rng)
    label = torch.randint(2, (n,), generator=rng)
    x = torch.where(label > 0, 1 - angle.cos(), angle.cos())
    y = torch.where(label > 0, 0.5 - angle.sin(), angle.sin())
    points = torch.stack([x, y], 1) + 0.05 * torch.randn(n, 2, generator=rng)
    return LabelledData(points, label, torch.arange(n))


def test_the_points_between_labels_teach_where_the_boundary_is() -> None:
    pool, test = two_moons(600, 0), two_moons(1000, 1)
    few = pool.rows(torch.arange(600) < 6)
    settings = dfal.Training(
        epochs=1, steps=300, learning_rate=0.02, schedule="cosine", radius=0.3, ensemble=2
    )

    def make() -> nn.Module:
        return nn.Sequential(nn.Linear(2, 64), nn.ReLU(), nn.Linear(64, 2))

    def with_(kind: str) -> float:
        training = dataclasses.replace(settings, unlabelled=kind)
        return accuracy(make, few, training, Images(pool.images), test)

    assert with_("none") < 0.9
    assert with_("consistency") > 0.97


@pytest.mark.gpu
def test_a_graph_of_a_gpu_trains_as_the_cpu_does() -> None:
    jobs = jobs_of_all_kinds()
    want = trained(jobs, 2)
    trainer = Together(2)
    for name, each in jobs.items():
        trainer.add(name, dataclasses.replace(each, device="cuda"))
    got: dict[str, Trained | None] = {}
    while trainer.busy:
        got |= trainer.advance()
    for running in trainer._stacks.values():
        assert running is not None
        assert running._stack._graph is not None, "its steps are one graph"
    for name, here in want.items():
        there = got[name]
        assert there is not None
        for weight, tensor in here.weights.items():
            torch.testing.assert_close(there.weights[weight], tensor, atol=1e-5, rtol=0)
