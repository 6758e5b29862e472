"""Training: what is held out, when it stops, which weights are kept, and that a seed fixes all of
it."""

import copy
import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import dfal
from dfal.data.datasets import Dataset
from dfal.nn import training, training_steps
from dfal.nn.training import split_holdout


def data(count: int = 60, twins: int = 0) -> dfal.LabelledData:
    """Two classes that a linear network can tell apart."""
    x = torch.randn(count, 4, generator=torch.Generator().manual_seed(0))
    y = (x[:, 0] > 0).long()
    images = torch.cat([x, x[:twins] + 0.01])
    return dfal.LabelledData(
        images, torch.cat([y, y[:twins]]), torch.cat([torch.arange(count), torch.arange(twins)])
    )


def linear() -> nn.Module:
    return nn.Sequential(nn.Dropout(0.1), nn.Linear(4, 2))


def weights(model: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


class Watched(nn.Module):
    """A network that counts its steps and remembers its weights after each epoch of evaluation."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 2)
        self.trained: list[int] = []
        self.evaluated: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.trained.append(len(x))
        else:
            self.evaluated.append(weights(self.inner))
        out: Tensor = self.inner(x)
        return out


def test_it_learns() -> None:
    model = dfal.fit(linear, data(), dfal.Training(learning_rate=0.05), seed=0)
    assert (dfal.predict(model, data().images).argmax(1) == data().labels).float().mean() > 0.95
    assert not model.training


@pytest.mark.parametrize(
    "settings",
    [dfal.Training(epochs=5), dfal.Training(epochs=5, holdout=0.2, restarts=2)],
    ids=repr,
)
def test_a_seed_fixes_everything_and_the_global_generator_is_left_alone(
    settings: dfal.Training,
) -> None:
    state = torch.get_rng_state()
    first, second = (dfal.fit(linear, data(), settings, seed=3) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(weights(first), weights(second))
    torch.rand(7)
    assert torch.equal(weights(first), weights(dfal.fit(linear, data(), settings, seed=3)))
    assert not torch.equal(weights(first), weights(dfal.fit(linear, data(), settings, seed=4)))


def test_every_image_is_trained_on_once_an_epoch_in_batches() -> None:
    model = dfal.fit(Watched, data(70), dfal.Training(epochs=3, training_batch=32), seed=0)
    assert isinstance(model, Watched)
    assert model.trained == [32, 32, 6] * 3


def test_a_last_image_alone_joins_the_batch_before_it_only_where_there_is_batch_norm() -> None:
    settings = dfal.Training(epochs=2, training_batch=32)
    alone = dfal.fit(Watched, data(65), settings, seed=0)
    assert isinstance(alone, Watched)
    assert alone.trained == [32, 32, 1] * 2

    class Normed(Watched):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm1d(2)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.norm(super().forward(x))
            return out

    joined = dfal.fit(Normed, data(65), settings, seed=0)
    assert joined.trained == [32, 33] * 2
    with pytest.raises(dfal.DfalError, match="batch norm cannot train on one image"):
        dfal.fit(Normed, data(1), settings, seed=0)


def test_a_network_of_float64_and_lazy_layers_is_trained() -> None:
    model = dfal.fit(
        lambda: nn.Sequential(nn.LazyLinear(2)).double(), data(), dfal.Training(epochs=2), seed=0
    )
    assert dfal.predict(model, data().images).dtype == torch.float64


def test_a_hold_out_that_leaves_nothing_is_refused() -> None:
    with pytest.raises(dfal.DfalError, match=r"holdout = 0.99 leaves none of 20 annotated images"):
        dfal.fit(linear, data(20), dfal.Training(holdout=0.99), seed=0)


def test_dropout_is_on_while_training() -> None:
    modes: list[bool] = []

    def make() -> nn.Module:
        model = linear()
        model.register_forward_hook(lambda module, *_: modes.append(module[0].training))
        return model

    dfal.fit(make, data(), dfal.Training(epochs=2, holdout=0.2), seed=0)
    assert modes == [True, True, False] * 2


def test_an_image_and_its_twin_are_on_one_side() -> None:
    training, validation = split_holdout(data(50, twins=30), 0.2, torch.Generator().manual_seed(0))
    assert len(validation.source.unique()) == 10
    assert not torch.isin(validation.source, training.source).any()
    assert len(training.labels) + len(validation.labels) == 80
    assert len(validation.labels) > len(validation.source.unique()), (
        "twins are validated on beside their images"
    )
    for part in (training, validation):
        assert (
            torch.equal(part.images[:, 0] > 0.02, part.labels.bool())
            or (part.images[:, 0].abs() < 0.03).any()
        )


def test_no_holdout_trains_on_everything_for_all_epochs() -> None:
    training, validation = split_holdout(data(), 0.0, torch.Generator())
    assert (len(training.labels), len(validation.labels)) == (60, 0)
    model = dfal.fit(
        Watched, data(), dfal.Training(epochs=40, learning_rate=5.0, patience=1), seed=0
    )
    assert isinstance(model, Watched)
    assert len(model.trained) == 40 * 2


def test_it_stops_after_patience_epochs_and_keeps_the_best_weights() -> None:
    settings = dfal.Training(
        epochs=100, patience=3, holdout=0.5, learning_rate=2.0, training_batch=8
    )
    model = dfal.fit(Watched, data(20), settings, seed=1)
    assert isinstance(model, Watched)
    epochs = len(model.evaluated)
    assert epochs < 100
    held = split_holdout(data(20), 0.5, dfal.generator(1, 0, "holdout"))[1]
    losses = []
    for at in model.evaluated:
        w, b = at[:8].view(2, 4), at[8:]
        losses.append(float(nn.functional.cross_entropy(held.images @ w.T + b, held.labels)))
    best = losses.index(min(losses))
    assert epochs == best + 1 + 3
    assert torch.equal(weights(model.inner), model.evaluated[best])


def test_restarts_keep_the_lowest_validation_loss() -> None:
    made: list[nn.Module] = []

    def make() -> nn.Module:
        made.append(linear())
        return made[-1]

    settings = dfal.Training(epochs=2, holdout=0.3, restarts=6)
    kept = dfal.fit(make, data(), settings, seed=0)
    held = split_holdout(data(), 0.3, dfal.generator(0, 0, "holdout"))[1]
    losses = [
        float(nn.functional.cross_entropy(dfal.predict(model, held.images), held.labels))
        for model in made
    ]
    assert len({round(loss, 6) for loss in losses}) == 6, "restarts differ"
    assert kept is made[losses.index(min(losses))]


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"learning_rate": 0}, r"learning_rate must be more than 0 and finite \(got 0\)"),
        ({"epochs": 0}, "must be 1 or more"),
        ({"restarts": 0}, "must be 1 or more"),
        ({"holdout": 1.0}, r"holdout must be at least 0 and below 1 \(got 1\.0\)"),
    ],
)
def test_settings_that_cannot_work_are_refused(wrong: dict[str, float], sentence: str) -> None:
    with pytest.raises(dfal.DfalError, match=sentence):
        dfal.Training(**wrong)  # type: ignore[arg-type]


def test_a_chain_learns_as_autograd_does(monkeypatch: pytest.MonkeyPatch, digits: Dataset) -> None:
    pool = dfal.Pool.new(digits.images, {i: int(digits.labels[i]) for i in range(0, 4000, 40)})

    def make() -> nn.Module:
        model = dfal.lenet5()
        for layer in model.modules():
            if isinstance(layer, nn.Dropout):
                layer.p = 0.0  # drawn in another order
        return model

    settings = dfal.Training(epochs=3, holdout=0.2)
    by_chain = weights(dfal.fit(make, pool.labelled_data(), settings, seed=0))
    monkeypatch.setattr(training_steps, "fast_sequential", lambda model: None)
    by_autograd = weights(dfal.fit(make, pool.labelled_data(), settings, seed=0))
    torch.testing.assert_close(by_chain, by_autograd, rtol=1e-3, atol=1e-3)
    assert not torch.equal(by_chain, by_autograd), "they are two ways"


@pytest.mark.parametrize("outputs", [1, 2])
def test_two_classes_by_one_logit_or_two(outputs: int) -> None:
    model = dfal.fit(
        lambda: nn.Sequential(nn.Linear(4, outputs)),
        data(),
        dfal.Training(learning_rate=0.05),
        seed=0,
    )
    assert (dfal.predict(model, data().images).argmax(1) == data().labels).float().mean() > 0.95


def test_parameters_in_one_vector_learn_as_they_do_alone() -> None:
    """Frozen ones stay, tied ones are one, and so do other data types and layouts."""

    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 4, 3)
            self.a, self.b = nn.Linear(36, 36), nn.Linear(36, 36)
            self.b.weight = self.a.weight
            self.end = nn.Linear(36, 3).double()
            self.unused = nn.Parameter(torch.ones(2))
            self.conv.weight.data = self.conv.weight.data.contiguous(
                memory_format=torch.channels_last
            )
            assert self.conv.bias is not None
            self.conv.bias.requires_grad_(False)

        def forward(self, images: Tensor) -> Tensor:
            out: Tensor = self.end(self.b(self.a(self.conv(images).relu().flatten(1))).double())
            return out

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model, images, labels = Odd(), torch.rand(6, 1, 5, 5), torch.tensor([0, 1, 2, 0, 1, 2])
        plain = copy.deepcopy(model)
    for one, parameters in (
        (plain, list(plain.parameters())),
        (model, training._flatten_parameters(model)),
    ):
        optimiser = torch.optim.Adam(parameters, lr=1e-2)
        for _ in range(5):
            optimiser.zero_grad(set_to_none=one is plain)
            nn.functional.cross_entropy(one(images), labels).backward()
            optimiser.step()
    torch.testing.assert_close(model.state_dict(), plain.state_dict())


class Block(nn.Module):
    """A residual block with all that a frozen backbone holds: norms with and without parameters,
    and dropout."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels)
        self.plain, self.drop = nn.BatchNorm2d(channels, affine=False), nn.Dropout(0.5)
        self.seen: list[tuple[bool, ...]] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(
            (self.training, self.norm.training, self.plain.training, self.drop.training)
        )
        out: Tensor = x + self.drop(self.plain(self.norm(self.conv(x))))
        return out


def by_autograd() -> nn.Sequential:
    return nn.Sequential(Block(2), nn.Flatten(), nn.Dropout(0.5), nn.Linear(32, 2))


def by_chain() -> nn.Sequential:
    norms = nn.BatchNorm2d(2), nn.ReLU(), nn.BatchNorm2d(2, affine=False)
    backbone = nn.Sequential(nn.Conv2d(2, 2, 3, padding=1), *norms, nn.Dropout(0.5))
    return nn.Sequential(backbone, nn.Flatten(), nn.Dropout(0.5), nn.Linear(32, 2))


def pictures(count: int = 40) -> dfal.LabelledData:
    images = (
        torch.rand(count, 2, 4, 4, generator=torch.Generator().manual_seed(0)) + 3
    )  # far from the norms' statistics
    return dfal.LabelledData(images, (images[:, 0, 0, 0] > 3.5).long(), torch.arange(count))


@pytest.mark.parametrize("network", [by_autograd, by_chain])
@pytest.mark.parametrize(
    "settings",
    [dfal.Training(epochs=3), dfal.Training(epochs=3, holdout=0.2, restarts=2)],
    ids=repr,
)
def test_a_frozen_backbone_stays_as_it_was_to_the_bit(
    network: Callable[[], nn.Sequential], settings: dfal.Training
) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(
            0
        )  # some weights leave no feature alive, and then the head learns nothing
        first = network()
    first[0].requires_grad_(False)
    before = copy.deepcopy(first.state_dict())

    def make() -> nn.Sequential:
        return copy.deepcopy(first)

    model = dfal.fit(make, pictures(), settings, seed=0)
    after = model.state_dict()
    assert any("running_mean" in name for name in before)
    for name in before:
        assert torch.equal(before[name], after[name]) == name.startswith("0."), name
    assert not any(module.training for module in model.modules())


def test_a_frozen_block_is_evaluated_and_what_is_outside_is_trained() -> None:
    made: list[nn.Sequential] = []

    def make() -> nn.Sequential:
        made.append(by_autograd())
        made[0][0].requires_grad_(False)
        return made[0]

    drop = []
    with pytest.MonkeyPatch.context() as patch:
        forward = nn.Dropout.forward

        def remember(layer: nn.Dropout, x: Tensor) -> Tensor:
            drop.append((layer is made[0][2], layer.training))
            return forward(layer, x)

        patch.setattr(nn.Dropout, "forward", remember)
        dfal.fit(make, pictures(), dfal.Training(epochs=1), seed=0)
    block = made[0][0]
    assert isinstance(block, Block)
    assert set(block.seen) == {(False, False, False, False)}
    assert {on for outside, on in drop if not outside} == {False}
    assert drop[0] == (False, False)
    assert (True, True) in drop, "dropout before the head is on while it is trained"


def test_a_norm_without_parameters_follows_the_module_that_holds_it() -> None:
    """In no frozen block it learns its statistics; the frozen convolution before it is as it
    was."""

    def make() -> nn.Sequential:
        model = nn.Sequential(
            nn.Conv2d(2, 2, 3), nn.BatchNorm2d(2, affine=False), nn.Flatten(), nn.Linear(8, 2)
        )
        model[0].requires_grad_(False)
        return model

    norm = dfal.fit(make, pictures(), dfal.Training(epochs=2), seed=0)[1]
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.num_batches_tracked is not None
    assert int(norm.num_batches_tracked) == 4, "two batches, two epochs"


def test_a_norm_of_which_anything_is_trained_learns_its_statistics() -> None:
    def make() -> nn.Sequential:
        model = nn.Sequential(nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(32, 2))
        model[0].weight.requires_grad_(False)  # its bias is trained
        return model

    norm = dfal.fit(make, pictures(), dfal.Training(epochs=2), seed=0)[0]
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None
    assert (norm.running_mean > 0.5).all()


def test_a_layer_that_a_frozen_block_shares_with_the_rest_is_trained() -> None:
    shared = nn.Dropout(0.5)
    seen = []

    class Sharing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.frozen = nn.Sequential(nn.Linear(4, 4), shared).requires_grad_(False)
            self.drop, self.head = shared, nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            seen.append((self.training, shared.training, self.frozen.training))
            out: Tensor = self.head(self.drop(self.frozen(x)))
            return out

    dfal.fit(Sharing, data(), dfal.Training(epochs=1), seed=0)
    assert seen[0] == (True, True, False)


def test_a_network_with_nothing_to_train_is_refused() -> None:
    for make in (lambda: linear().requires_grad_(False), nn.Flatten):
        with pytest.raises(dfal.DfalError, match="the network has no parameter to train"):
            dfal.fit(
                make,
                dfal.LabelledData(data().images[:, :2], data().labels, data().source),
                dfal.Training(),
                seed=0,
            )


@pytest.mark.parametrize(
    "make", [lambda: nn.Sequential(nn.Linear(4, 2)), Watched], ids=["chain", "autograd"]
)
@pytest.mark.parametrize("holdout", [0.0, 0.5])
@pytest.mark.parametrize(
    ("label", "sentence"),
    [
        (
            14,
            (
                r"has the label 14, but the network has the classes 0 to 1: number the classes from"
                r" 0, or give the network 15"
            ),
        ),
        (
            2,
            (
                r"image 7 has the label 2, but the network has the classes 0 to 1: .* or give the"
                r" network 3 logits"
            ),
        ),
        (-1, r"image 7 has the label -1, but the network has the classes 0 to 1: give it a class"),
        (
            -100,
            r"image 7 has the label -100, but .*: give it a class",
        ),  # which PyTorch leaves out without a word
    ],
)
def test_a_label_that_is_no_class_of_the_network_is_refused(
    make: Callable[[], nn.Module], holdout: float, label: int, sentence: str
) -> None:
    some = data()
    labels = some.labels.clone()
    labels[7] = label
    with pytest.raises(dfal.DfalError, match=sentence):
        dfal.fit(
            make,
            dfal.LabelledData(some.images, labels, some.source),
            dfal.Training(epochs=1, holdout=holdout),
            seed=0,
        )


def test_images_that_the_network_cannot_take_are_refused_in_a_sentence() -> None:
    for make in (
        lambda: nn.Sequential(nn.Linear(9, 2)),
        lambda: nn.Sequential(nn.Linear(9, 2), nn.Softsign()),
    ):
        with pytest.raises(dfal.DfalError, match=r"the network cannot take images of shape \(4,\)"):
            dfal.fit(make, data(), dfal.Training(epochs=1), seed=0)


class ByAutograd(nn.Module):
    """A network that is no chain."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.inner(x)
        return out


@pytest.mark.parametrize("make", [linear, ByAutograd])
@pytest.mark.parametrize(
    "mode",
    [torch.no_grad(), torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16)],
    ids=lambda mode: type(mode).__name__,
)
def test_a_network_is_trained_the_same_in_every_mode_of_the_caller(
    make: Callable[[], nn.Module], mode: Any
) -> None:
    settings = dfal.Training(epochs=3, holdout=0.2)
    usual = weights(dfal.fit(make, data(), settings, seed=0))
    with mode:
        assert torch.equal(weights(dfal.fit(make, data(), settings, seed=0)), usual)


def test_steps_are_on_full_mini_batches_of_shuffled_passes() -> None:
    settings = dfal.Training(epochs=1, steps=7, training_batch=32)
    model = dfal.fit(Watched, data(70), settings, seed=0)
    assert model.trained == [32] * 7
    model = dfal.fit(Watched, data(20), settings, seed=0)
    assert model.trained == [32] * 7
    # They are a floor: epochs may ask for more.
    model = dfal.fit(Watched, data(70), dfal.Training(epochs=4, steps=7), seed=0)
    assert model.trained == [32] * 12


def test_each_pass_of_shuffled_cycles_has_every_row_once() -> None:
    rng = torch.Generator().manual_seed(0)
    cycles = training_steps.shuffled_cycles(10, 4, rng=rng)
    rows = torch.cat([next(cycles) for _ in range(5)])
    assert rows[:10].sort().values.tolist() == rows[10:].sort().values.tolist() == list(range(10))
    assert rows[:10].tolist() != rows[10:].tolist()


def test_the_cosine_schedule_rises_and_falls() -> None:
    rates = list(training_steps.learning_rates(2.0, "cosine", 100))
    assert rates[:10] == pytest.approx([0.2 * step for step in range(1, 11)])
    assert rates[10] == 2
    assert rates[55] == pytest.approx(1)
    assert rates[99] == pytest.approx(2 * 0.5 * (1 + np.cos(np.pi * 89 / 90)))
    assert list(training_steps.learning_rates(2.0, "constant", 3)) == [2, 2, 2]
    assert len(list(training_steps.learning_rates(2.0, "cosine", 3))) == 3


def test_the_running_mean_of_the_weights_takes_their_place() -> None:
    parameter = nn.Parameter(torch.zeros(1))
    mean = training_steps.RunningMean([parameter], 0.5)
    reference = 0.0
    for step, value in enumerate([1.0, 2.0, 4.0, 8.0, 9.0, 3.0, 1.0, 5.0, 6.0, 2.0, 1.0], 1):
        parameter.data.fill_(value)
        mean.update()
        decay = min(0.5, step / (step + 9))
        reference = decay * reference + (1 - decay) * value
    mean.swap()
    assert parameter.item() == pytest.approx(reference)
    mean.swap()
    assert parameter.item() == 1.0
    # A network is evaluated, and returned, with the mean.
    untrained, plain, averaged = (
        weights(dfal.fit(lambda: nn.Linear(4, 2), data(), settings, 0))
        for settings in (
            dfal.Training(epochs=1, training_batch=60, learning_rate=1e-12),
            dfal.Training(epochs=1, training_batch=60, learning_rate=0.5),
            dfal.Training(epochs=1, training_batch=60, learning_rate=0.5, average=0.99),
        )
    )
    torch.testing.assert_close(averaged, 0.1 * untrained + 0.9 * plain)


def test_an_ensemble_predicts_by_the_mean_probability_of_its_members() -> None:
    settings = dfal.Training(epochs=2, ensemble=3)
    model = dfal.fit(lambda: nn.Linear(4, 2), data(), settings, seed=0)
    members = list(model.members)  # type: ignore[arg-type]
    assert len({float(weights(member).sum()) for member in members}) == 3
    x = data().images
    mean = torch.stack([dfal.predict(member, x).softmax(1) for member in members]).mean(0)
    torch.testing.assert_close(dfal.predict(model, x).softmax(1), mean)
    again = dfal.fit(
        lambda: nn.Linear(4, 2),
        data(),
        dataclasses.replace(settings, learning_rate=1e-12),
        seed=5,
        start=model.state_dict(),
    )
    torch.testing.assert_close(dfal.predict(again, x), dfal.predict(model, x))


def test_a_warm_start_begins_with_the_weights_given() -> None:
    first = dfal.fit(linear, data(), dfal.Training(epochs=3), seed=0)
    settings = dfal.Training(epochs=1, steps=90, warm_steps=5, learning_rate=1e-12)
    warm = dfal.fit(linear, data(), settings, seed=1, start=first.state_dict())
    torch.testing.assert_close(weights(warm), weights(first))
    watched = dfal.fit(Watched, data(), settings, seed=1, start=Watched().state_dict())
    assert len(watched.trained) == 5


@pytest.mark.gpu
@pytest.mark.parametrize("unlabelled", ["none", "consistency"])
def test_cuda_trains_networks_as_good(digits: Dataset, unlabelled: str) -> None:
    pool = dfal.Pool.new(digits.images, {i: int(digits.labels[i]) for i in range(0, 4000, 20)})
    settings = dfal.Training(epochs=20, unlabelled=unlabelled, augment="shapes")
    accuracies = []
    for device in ("cpu", "cuda"):
        labelled = pool.labelled_data(device)
        model = dfal.fit(dfal.lenet5, labelled, settings, 0, unlabelled=pool.images)
        assert all(parameter.device.type == device for parameter in model.parameters())
        f = dfal.predict(model, digits.test_images.take(torch.arange(1000)).to(device))
        accuracies.append(float((f.argmax(1).cpu() == digits.test_labels).float().mean()))
    here, there = accuracies
    assert there > here - 0.06


@pytest.mark.parametrize("is_after", [False, True])
def test_a_hook_on_a_gradient_is_called(is_after: bool) -> None:
    """As it is on that of weights which are to stay 0."""
    mask = torch.tensor([1.0, 0.0, 1.0, 0.0])

    def mask_gradient(weight: Tensor) -> None:
        assert weight.grad is not None
        weight.grad.mul_(mask)

    def masked() -> nn.Module:
        layer = nn.Linear(4, 2)
        with torch.no_grad():
            layer.weight.mul_(mask)
        if is_after:
            layer.weight.register_post_accumulate_grad_hook(mask_gradient)
        else:
            layer.weight.register_hook(lambda gradient: gradient * mask)
        return nn.Sequential(nn.Flatten(), layer)

    model = dfal.fit(masked, data(), dfal.Training(learning_rate=0.05, epochs=5), seed=0)
    trained = model.get_parameter("1.weight")
    assert (trained[:, 1::2] == 0).all()
    assert (trained[:, ::2] != 0).all()
