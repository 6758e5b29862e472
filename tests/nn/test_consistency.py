"""Training on unlabelled images: its gradient is that of the loss as it is written down, and it
learns what labels alone do not teach."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import dfal
from dfal.data.image_array import Images
from dfal.errors import DfalError
from dfal.nn.augmentation import NONE, Augmentation
from dfal.nn.consistency import PROBE, ConsistencyStep
from dfal.nn.training_steps import AutogradGradients, FusedGradients, LabelCheck, gradients

THRESHOLD = 0.5


def small(classes: int = 3) -> nn.Sequential:
    """A network of known layers, with dropout that must be off."""
    torch.manual_seed(0)
    head = nn.Linear(4 * 3 * 3, classes)
    head.weight.data *= 20  # it predicts some images with confidence
    return nn.Sequential(
        *(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.9), nn.Flatten()),
        head,
    )


def images(n: int, seed: int = 0) -> Tensor:
    return torch.rand(n, 1, 8, 8, generator=torch.Generator().manual_seed(seed))


def parameter_gradients(model: nn.Module) -> list[Tensor]:
    return [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in model.parameters()]


@pytest.mark.parametrize("batch_norm", [False, True])
def test_gradients_are_those_of_autograd(batch_norm: bool) -> None:
    model = small()
    if batch_norm:
        model.insert(1, nn.BatchNorm2d(4))
    model.eval()
    found = gradients(model, model.eval)
    assert isinstance(found, AutogradGradients if batch_norm else FusedGradients)
    x, targets = images(7), torch.rand(7, 3).softmax(1)
    given = torch.rand(7)

    inputs = x.clone().requires_grad_()
    losses = -(targets * model(inputs).log_softmax(1)).sum(1)
    of_images, *of_parameters = torch.autograd.grad(
        losses.sum(), [inputs, *model.parameters()], retain_graph=True
    )
    weighted = torch.autograd.grad((given * losses).sum(), list(model.parameters()))

    torch.testing.assert_close(found.of_images(x, targets), of_images)
    assert all(not gradient.any() for gradient in parameter_gradients(model))
    torch.testing.assert_close(found.probabilities(x), model(x).softmax(1))
    found.add(x, targets, given)
    for own, reference in zip(parameter_gradients(model), weighted, strict=True):
        torch.testing.assert_close(own, reference)
    assert not torch.allclose(of_parameters[0], weighted[0]), "the weights count"


def step(model: nn.Module, labels: Tensor, **settings: Any) -> ConsistencyStep:
    training = dfal.Training(
        **{"unlabelled": "consistency", "unlabelled_batch": 16, "threshold": THRESHOLD, **settings}
    )
    data = dfal.LabelledData(images(len(labels)), labels, torch.arange(len(labels)))
    return ConsistencyStep(
        gradients(model, model.eval),
        images=Images(images(16, 1)),
        augment=NONE,
        settings=training,
        labels=labels,
        label_check=LabelCheck(data, data),
        rng=torch.Generator().manual_seed(5),
    )


@pytest.mark.parametrize("kind", ["pseudo-labels", "vat", "consistency"])
def test_a_step_has_the_gradient_of_its_loss(kind: str) -> None:
    """The loss is written down once more, plainly, with the same draws."""
    model, labels = small().eval(), torch.tensor([0, 1, 2, 0])
    step(model, labels, unlabelled=kind)(images(4), labels)
    found = parameter_gradients(model)

    model.zero_grad()
    rng = torch.Generator().manual_seed(5)
    x = images(16, 1)[torch.randperm(16, generator=rng)]
    p = model(x).softmax(1).detach()
    loss = F.cross_entropy(model(images(4)), labels)
    if kind != "vat":
        aligned = p / p.mean(0)
        aligned /= aligned.sum(1, keepdim=True)
        is_sure = aligned.amax(1) >= THRESHOLD
        assert 0 < is_sure.sum() < 16
        each = F.cross_entropy(model(x), aligned.argmax(1), reduction="none")
        loss = loss + (each * is_sure).sum() / 16
    if kind != "pseudo-labels":
        noise = torch.randn(x.shape, generator=rng)
        d = PROBE * noise / noise.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
        nearby = (x + d).requires_grad_()
        (slope,) = torch.autograd.grad(F.cross_entropy(model(nearby), p, reduction="sum"), nearby)
        r = 2 * slope / slope.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
        with torch.no_grad():
            before, after = (F.cross_entropy(model(look), p) for look in (x, x + r))
            assert after > before + 0.01, "r leads away from the prediction"
        loss = loss + F.cross_entropy(model(x + r), p)
    loss.backward()
    for own, reference in zip(found, parameter_gradients(model), strict=True):
        torch.testing.assert_close(own, reference, rtol=1e-3, atol=1e-5)


def test_pseudo_labels_wait_until_every_class_has_a_label() -> None:
    model, labels = small().eval(), torch.tensor([0, 1, 1, 0])
    step(model, labels, unlabelled="pseudo-labels")(images(4), labels)
    found = parameter_gradients(model)
    model.zero_grad()
    F.cross_entropy(model(images(4)), labels).backward()
    for own, reference in zip(found, parameter_gradients(model), strict=True):
        torch.testing.assert_close(own, reference)


def test_a_pseudo_label_of_a_weak_look_is_taught_for_a_strong_one() -> None:
    seen: list[str] = []

    def look(name: str) -> Callable[[Tensor, torch.Generator], Tensor]:
        def change(x: Tensor, rng: torch.Generator) -> Tensor:
            seen.append(f"{name} {len(x)}")
            return x

        return change

    model, labels = small().eval(), torch.tensor([0, 1, 2])
    one = step(model, labels, threshold=0.0)
    one._augment = Augmentation(look("strong"), look("weak"))
    one(images(3), labels)
    assert seen == ["weak 16", "strong 19"]


class Modes(nn.Module):
    """Remembers whether its dropout and its batch norm were in training mode in each pass."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.dropout, self.head = nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 2)
        self.modes: list[tuple[bool, bool]] = []

    def forward(self, x: Tensor) -> Tensor:
        self.modes.append((self.norm.training, self.dropout.training))
        out: Tensor = self.head(self.dropout(self.norm(x)))
        return out


def two_moons(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Two classes along half circles, so that the images between labels say where they run."""
    rng = np.random.default_rng(seed)
    angle, label = np.pi * rng.random(n), rng.integers(0, 2, n)
    x = np.where(label, 1 - np.cos(angle), np.cos(angle))
    y = np.where(label, 0.5 - np.sin(angle), np.sin(angle))
    points = np.stack([x, y], 1) + rng.normal(0, 0.05, (n, 2))
    return torch.from_numpy(points.astype(np.float32)), torch.from_numpy(label)


def test_dropout_is_off_and_batch_norm_is_trained() -> None:
    x, y = torch.randn(40, 4), torch.arange(40) % 2
    data = dfal.LabelledData(x, y, torch.arange(40))
    settings = dfal.Training(epochs=1, steps=3, unlabelled="consistency")
    model = dfal.fit(Modes, data, settings, seed=0, unlabelled=Images(x))
    assert {dropout for _, dropout in model.modes} == {False}
    assert [norm for norm, _ in model.modes].count(True) == 3
    assert not torch.equal(model.norm.running_mean, torch.zeros(4))  # type: ignore[arg-type]
    settings = dfal.Training(epochs=1, without_dropout=True)
    model = dfal.fit(Modes, data, settings, seed=0)
    assert set(model.modes[:2]) == {(True, False)}


def test_the_points_between_labels_teach_where_the_boundary_is() -> None:
    x, y = two_moons(600, 0)
    test_x, test_y = two_moons(1000, 1)
    data = dfal.LabelledData(x[:6], y[:6], torch.arange(6))

    def make() -> nn.Module:
        return nn.Sequential(nn.Linear(2, 64), nn.ReLU(), nn.Linear(64, 2))

    def accuracy(**settings: Any) -> float:
        training = dfal.Training(
            **{"epochs": 1, "steps": 600, "learning_rate": 0.01, "schedule": "cosine", **settings}
        )
        model = dfal.fit(make, data, training, seed=0, unlabelled=Images(x))
        return float((dfal.predict(model, test_x).argmax(1) == test_y).float().mean())

    assert accuracy() < 0.8
    assert accuracy(unlabelled="consistency", radius=0.3) > 0.97


def test_a_seed_fixes_everything() -> None:
    x, y = two_moons(100, 0)
    data = dfal.LabelledData(x[:20], y[:20], torch.arange(20))
    settings = dfal.Training(epochs=1, steps=20, unlabelled="consistency", average=0.9)

    def weights(seed: int) -> Tensor:
        model = dfal.fit(lambda: nn.Linear(2, 2), data, settings, seed, unlabelled=Images(x))
        return torch.cat([parameter.flatten() for parameter in model.parameters()])

    state = torch.get_rng_state()
    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("settings", "unlabelled", "sentence"),
    [
        ({"unlabelled": "vat"}, None, "needs the images of the pool: give fit unlabelled="),
        ({"unlabelled": "spreading"}, None, "give it to a dfal.Trial with a backbone"),
        ({"augment": "shapes"}, None, "changes images, but the data have the shape"),
    ],
)
def test_what_cannot_be_trained_on_is_one_sentence(
    settings: dict[str, Any], unlabelled: Images | None, sentence: str
) -> None:
    data = dfal.LabelledData(torch.rand(6, 2), torch.arange(6) % 2, torch.arange(6))
    with pytest.raises(DfalError, match=sentence):
        dfal.fit(lambda: nn.Linear(2, 2), data, dfal.Training(**settings), 0, unlabelled=unlabelled)


def test_a_label_that_is_no_class_is_named() -> None:
    data = dfal.LabelledData(torch.rand(3, 2), torch.tensor([0, 1, 7]), torch.arange(3))
    settings = dfal.Training(unlabelled="vat")
    with pytest.raises(DfalError, match="image 2 has the label 7"):
        dfal.fit(lambda: nn.Linear(2, 2), data, settings, 0, unlabelled=Images(torch.rand(9, 2)))
