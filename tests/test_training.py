"""Training: what is held out, when it stops, which weights are kept, and that a seed fixes all of it."""

import copy

import pytest
import torch
from torch import Tensor, nn

import dfal
from dfal import training
from dfal.datasets import Dataset
from dfal.training import split


def data(count: int = 60, twins: int = 0) -> dfal.LabelledData:
    """Two classes that a linear network can tell apart."""
    x = torch.randn(count, 4, generator=torch.Generator().manual_seed(0))
    y = (x[:, 0] > 0).long()
    images = torch.cat([x, x[:twins] + 0.01])
    return dfal.LabelledData(images, torch.cat([y, y[:twins]]), torch.cat([torch.arange(count), torch.arange(twins)]))


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


@pytest.mark.parametrize("settings", [dfal.Training(epochs=5), dfal.Training(epochs=5, holdout=0.2, restarts=2)], ids=repr)
def test_a_seed_fixes_everything_and_the_global_generator_is_left_alone(settings: dfal.Training) -> None:
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
    with pytest.raises(dfal.DfalError, match="batch norm cannot learn from one image"):
        dfal.fit(Normed, data(1), settings, seed=0)


def test_a_network_of_float64_and_lazy_layers_is_trained() -> None:
    model = dfal.fit(lambda: nn.Sequential(nn.LazyLinear(2)).double(), data(), dfal.Training(epochs=2), seed=0)
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
    training, validation = split(data(50, twins=30), 0.2, torch.Generator().manual_seed(0))
    assert len(validation.source.unique()) == 10
    assert not torch.isin(validation.source, training.source).any()
    assert len(training.labels) + len(validation.labels) == 80
    assert len(validation.labels) > len(validation.source.unique()), "twins are validated on beside their images"
    for part in (training, validation):
        assert torch.equal(part.images[:, 0] > 0.02, part.labels.bool()) or (part.images[:, 0].abs() < 0.03).any()


def test_no_holdout_trains_on_everything_for_all_epochs() -> None:
    training, validation = split(data(), 0.0, torch.Generator())
    assert (len(training.labels), len(validation.labels)) == (60, 0)
    model = dfal.fit(Watched, data(), dfal.Training(epochs=40, learning_rate=5.0, patience=1), seed=0)
    assert isinstance(model, Watched)
    assert len(model.trained) == 40 * 2


def test_it_stops_after_patience_epochs_and_keeps_the_best_weights() -> None:
    settings = dfal.Training(epochs=100, patience=3, holdout=0.5, learning_rate=2.0, training_batch=8)
    model = dfal.fit(Watched, data(20), settings, seed=1)
    assert isinstance(model, Watched)
    epochs = len(model.evaluated)
    assert epochs < 100
    held = split(data(20), 0.5, dfal.generator(1, 0, "holdout"))[1]
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
    held = split(data(), 0.3, dfal.generator(0, 0, "holdout"))[1]
    losses = [float(nn.functional.cross_entropy(dfal.predict(model, held.images), held.labels)) for model in made]
    assert len({round(loss, 6) for loss in losses}) == 6, "restarts differ"
    assert kept is made[losses.index(min(losses))]


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"learning_rate": 0}, "learning_rate = 0"),
        ({"epochs": 0}, "must be 1 or more"),
        ({"restarts": 0}, "must be 1 or more"),
        ({"holdout": 1.0}, "holdout = 1.0 is no fraction"),
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
    monkeypatch.setattr(training, "chain", lambda model: None)
    by_autograd = weights(dfal.fit(make, pool.labelled_data(), settings, seed=0))
    torch.testing.assert_close(by_chain, by_autograd, rtol=1e-3, atol=1e-3)
    assert not torch.equal(by_chain, by_autograd), "they are two ways"


@pytest.mark.parametrize("outputs", [1, 2])
def test_two_classes_by_one_logit_or_two(outputs: int) -> None:
    model = dfal.fit(lambda: nn.Sequential(nn.Linear(4, outputs)), data(), dfal.Training(learning_rate=0.05), seed=0)
    assert (dfal.predict(model, data().images).argmax(1) == data().labels).float().mean() > 0.95


def test_parameters_in_one_piece_learn_as_they_do_alone() -> None:
    """Frozen ones stay, tied ones are one, and so do other data types and layouts."""

    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 4, 3)
            self.a, self.b = nn.Linear(36, 36), nn.Linear(36, 36)
            self.b.weight = self.a.weight
            self.end = nn.Linear(36, 3).double()
            self.unused = nn.Parameter(torch.ones(2))
            self.conv.weight.data = self.conv.weight.data.contiguous(memory_format=torch.channels_last)
            assert self.conv.bias is not None
            self.conv.bias.requires_grad_(False)

        def forward(self, images: Tensor) -> Tensor:
            out: Tensor = self.end(self.b(self.a(self.conv(images).relu().flatten(1))).double())
            return out

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model, images, labels = Odd(), torch.rand(6, 1, 5, 5), torch.tensor([0, 1, 2, 0, 1, 2])
        plain = copy.deepcopy(model)
    for one, parameters in ((plain, list(plain.parameters())), (model, training._in_one_piece(model))):
        optimiser = torch.optim.Adam(parameters, lr=1e-2)
        for _ in range(5):
            optimiser.zero_grad(set_to_none=one is plain)
            nn.functional.cross_entropy(one(images), labels).backward()
            optimiser.step()
    torch.testing.assert_close(model.state_dict(), plain.state_dict())
