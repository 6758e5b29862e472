"""Networks trained in step are those that are trained one by one, whoever is beside them."""

import copy
import dataclasses
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import dfal
from dfal.nn import stack, stacked_network, together, training
from dfal.nn.mini_batches import epochs
from dfal.nn.stack import StackableTraining
from dfal.nn.together import InThisProcess, Together, Trained, training_together
from dfal.pool import LabelledData
from dfal.seeding import generator

SETTINGS = dfal.Training(epochs=7, training_batch=8, without_dropout=True)


class Residual(nn.Module):
    """A network with a skip connection, a buffer and a frozen layer."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.inner = nn.Linear(36, 12), nn.Linear(12, 12)
        self.leave, self.fixed = nn.Linear(12, 3), nn.Linear(12, 12)
        self.drop = nn.Dropout(0.3)
        self.register_buffer("scale", torch.rand(12) + 0.5)
        self.fixed.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x.flatten(1)).relu_()
        x = x + self.drop(self.inner(x)) * self.scale + self.fixed(x)
        f: Tensor = self.leave(x)
        return f


def convolutional() -> nn.Module:
    layers = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.25))
    return nn.Sequential(layers, nn.Flatten(), nn.Linear(16, 3))


def strided() -> nn.Module:
    layers = nn.Sequential(nn.Conv2d(1, 4, (3, 2), stride=2, padding=(1, 0), bias=False), nn.ReLU())
    more = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1, groups=2), nn.Conv2d(4, 2, 1))
    return nn.Sequential(layers, more, nn.Flatten(), nn.Linear(18, 3))


def some_data(count: int, seed: int = 0) -> LabelledData:
    rng = torch.Generator().manual_seed(seed)
    labels = torch.randint(3, (count,), generator=rng)
    images = torch.rand(count, 1, 6, 6, generator=rng)
    images[torch.arange(count), 0, labels] += 0.5
    return LabelledData(images, labels, torch.arange(count))


def split(data: LabelledData, held_out: int) -> tuple[LabelledData, LabelledData]:
    is_held = torch.arange(len(data.labels)) < held_out
    return data.rows(~is_held), data.rows(is_held)


def stackable(
    make: Callable[[], nn.Module], run: training._TrainingRun, seed: int
) -> tuple[nn.Module, StackableTraining]:
    torch.manual_seed(seed)
    model = make()
    job = run.stackable(model, seed)
    assert job is not None
    return model, job


def run_of(
    data: LabelledData, settings: dfal.Training, held_out: int = 0, steps: int = 0
) -> training._TrainingRun:
    return training._TrainingRun(*split(data, held_out), settings, steps, None, training._proceed)


def trained(jobs: dict[str, StackableTraining], slots: int) -> dict[str, Trained]:
    trainer = Together(slots)
    for name, job in jobs.items():
        trainer.add(name, job)
    results: dict[str, Trained | None] = {}
    while trainer.busy:
        results |= trainer.advance()
    assert None not in results.values()
    return {name: result for name, result in results.items() if result is not None}


@pytest.fixture
def same_mini_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a plain training take the mini-batches of one in step, whose seed is 5."""

    def drawn(count: int, settings: dfal.Training, least: int, **_: Any) -> Any:
        return epochs(count, settings, least, rng=generator(5, 0, "mini-batches"))

    monkeypatch.setattr(training, "epochs", drawn)


@pytest.mark.usefixtures("same_mini_batches")
@pytest.mark.parametrize(
    "make",
    [Residual, convolutional, strided],
)
@pytest.mark.parametrize(
    ("settings", "held_out", "steps"),
    [
        (SETTINGS, 0, 0),
        (dataclasses.replace(SETTINGS, epochs=60, patience=2, learning_rate=0.03), 9, 0),
        (dataclasses.replace(SETTINGS, average=0.9, schedule="cosine"), 9, 0),
        (dataclasses.replace(SETTINGS, average=0.9), 0, 41),
    ],
    ids=["plain", "early stopping", "mean and cosine", "mean and steps"],
)
def test_a_network_is_trained_as_on_its_own(
    make: Callable[[], nn.Module],
    settings: dfal.Training,
    held_out: int,
    steps: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = run_of(some_data(37), settings, held_out, steps)
    model, job = stackable(make, run, 5)
    plain = copy.deepcopy(model)
    seen: list[float] = []
    loss_of = training._loss

    def loss_seen(*pair: Any) -> float:
        seen.append(loss_of(*pair))
        return seen[-1]

    monkeypatch.setattr(training, "_loss", loss_seen)
    want_loss = run.train(plain, torch.Generator())[1]
    looks: list[float] = []
    losses_of = stack.Stack.losses

    def losses(self: stack.Stack, rows: Any) -> list[float]:
        looks.append(losses_of(self, rows)[0])
        return [looks[-1]] * self.slots

    monkeypatch.setattr(stack.Stack, "losses", losses)
    network, loss = run.loaded(model, trained({"": job}, 2)[""])
    assert loss == pytest.approx(want_loss, rel=1e-4)
    for name, want in plain.state_dict().items():
        torch.testing.assert_close(network.state_dict()[name], want, atol=1e-5, rtol=1e-3)
    if held_out:
        assert looks == pytest.approx(seen, rel=1e-4), "the same curve, and the same end"
    if held_out and settings.patience == 2:
        assert 3 <= len(looks) < 60, "it stops early"
        assert min(looks) < looks[-1], "the last weights are not the best"


def jobs_of_all_kinds() -> dict[str, StackableTraining]:
    settings = dfal.Training(epochs=5, training_batch=8)
    jobs = {}
    for seed, (count, held_out, some) in enumerate(
        [
            (33, 0, settings),
            (70, 20, dataclasses.replace(settings, patience=1)),
            (7, 0, dataclasses.replace(settings, learning_rate=0.1)),
            (150, 3, dataclasses.replace(settings, schedule="cosine")),
        ]
    ):
        run = run_of(some_data(count, seed), some, held_out)
        jobs[f"job {seed}"] = stackable(convolutional, run, seed)[1]
    return jobs


def test_the_result_depends_neither_on_others_nor_on_the_slot() -> None:
    jobs = jobs_of_all_kinds()
    alone = {name: trained({name: job}, 4)[name] for name, job in jobs.items()}
    for order in (list(jobs), list(reversed(jobs))):
        for slots in (4, 2):
            beside = trained({name: jobs[name] for name in order}, slots)
            for name, want in alone.items():
                assert beside[name].loss == pytest.approx(want.loss, abs=1e-5)
                for weight, tensor in want.weights.items():
                    torch.testing.assert_close(
                        beside[name].weights[weight], tensor, atol=1e-5, rtol=0
                    )


def test_what_is_sent_to_another_process_has_each_weight_once() -> None:
    job = jobs_of_all_kinds()["job 0"]
    result = trained({"": job}, 2)[""]
    for sent in (job, result):
        weights = sent.trained if isinstance(sent, StackableTraining) else sent.weights
        for tensor in weights.values():
            assert tensor.untyped_storage().nbytes() == tensor.nbytes


def test_a_slot_is_free_as_soon_as_its_training_ends() -> None:
    jobs = jobs_of_all_kinds()
    trainer = Together(2)
    for name in ("job 0", "job 3", "job 2"):
        trainer.add(name, jobs[name])
    order: list[str] = []
    while trainer.busy:
        order += trainer.advance()
    assert order == ["job 0", "job 2", "job 3"], "25 steps, then 5, beside 95"


def test_a_training_that_is_dropped_leaves_its_slot() -> None:
    jobs = jobs_of_all_kinds()
    trainer = Together(1)
    for name, job in jobs.items():
        trainer.add(name, job)
    trainer.advance()
    for name in ("job 0", "job 1", "job 3"):
        trainer.drop(name)
    results: dict[str, Trained | None] = {}
    while trainer.busy:
        results |= trainer.advance()
    assert set(results) == {"job 2"}


def test_stacks_without_a_training_are_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(together, "MOST_STACKS", 2)
    trainer = Together(1)
    done: set[object] = set()
    for batch in (2, 3, 4, 5):
        settings = dataclasses.replace(SETTINGS, training_batch=batch)
        trainer.add(batch, stackable(Residual, run_of(some_data(12), settings), batch)[1])
        assert len(trainer._stacks) <= 2
        while trainer.busy:
            done |= set(trainer.advance())
    assert done == {2, 3, 4, 5}


def test_fit_trains_restarts_and_ensemble_in_step() -> None:
    data, settings = some_data(60), dfal.Training(epochs=100, holdout=0.2, restarts=2, ensemble=2)
    calls: list[int] = []
    trainer = InThisProcess(4)

    def counted(jobs: Any) -> Any:
        calls.append(len(jobs))
        return trainer(jobs)

    with training_together(counted):
        networks = dfal.fit(convolutional, data, settings, seed=0)
    assert calls == [4]
    assert together.trainer(torch.device("cpu")) is None
    first, second = networks.members  # type: ignore[misc]
    assert not torch.equal(first[2].weight, second[2].weight)
    accuracy = (dfal.predict(networks, data.images).argmax(1) == data.labels).float().mean()
    assert accuracy > 0.6


def test_on_a_gpu_small_networks_are_trained_as_a_graph_by_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    default = together.trainer(torch.device("cuda"))
    assert default is not None
    monkeypatch.setattr(together, "trainer", lambda device: default)  # as if this were a GPU
    data, settings = some_data(60), dfal.Training(epochs=100, ensemble=2)
    ensemble = dfal.fit(convolutional, data, settings, seed=0)
    with training_together(InThisProcess(2)):
        want = dfal.fit(convolutional, data, settings, seed=0)
    for some, other in zip(ensemble.parameters(), want.parameters(), strict=True):
        assert torch.allclose(some, other, atol=1e-5)


def test_on_a_gpu_a_large_network_is_trained_on_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    default = together.trainer(torch.device("cuda"))
    monkeypatch.setattr(together, "trainer", lambda device: default)
    stacked: list[object] = []
    monkeypatch.setattr(together, "_ONE", stacked.append)
    for most, count in ((36 * 3 + 3, 1), (36 * 3 + 2, 0)):  # weights of the network
        stacked.clear()
        monkeypatch.setattr(together, "MOST_WEIGHTS", most)
        dfal.fit(Mixing, some_data(20), dfal.Training(epochs=1), seed=0)
        assert len(stacked) == count


def test_the_default_of_a_gpu_says_nothing_where_it_trains_one_by_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    default = together.trainer(torch.device("cuda"))
    monkeypatch.setattr(together, "trainer", lambda device: default)
    dfal.fit(Mixing, some_data(20), dfal.Training(epochs=1), seed=0)
    assert capsys.readouterr().err == ""


def normed() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(36, 8), nn.BatchNorm1d(8), nn.Linear(8, 3))


class Linear(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(36, 3)

    def logits(self, x: Tensor) -> Tensor:
        f: Tensor = self.layer(x.flatten(1))
        return f


class Mixing(Linear):
    def forward(self, x: Tensor) -> Tensor:
        f = self.logits(x)
        return f - f.mean(0)


class FunctionalDropout(Linear):
    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(self.logits(x), 0.3, self.training)


class Refusing(Linear):
    def forward(self, x: Tensor) -> Tensor:
        f = self.logits(x)
        return f * (2 if f.sum() > 0 else 1)


class RefusingManyInEvaluation(Linear):
    def forward(self, x: Tensor) -> Tensor:
        if not self.training and len(x) == stack.LOOK_BATCH:
            raise ValueError("so many images are too many")
        return self.logits(x)


@pytest.mark.parametrize(
    "make",
    [normed, Mixing, FunctionalDropout, Refusing, RefusingManyInEvaluation],
    ids=["batch norm", "mixes images", "F.dropout", "looks at values", "raises in evaluation"],
)
def test_networks_that_cannot_be_stacked_are_trained_on_their_own(
    make: Callable[[], nn.Module],
) -> None:
    data, settings = some_data(20), dfal.Training(epochs=3, training_batch=8, holdout=0.2)
    want = dfal.fit(make, data, settings, seed=0)
    with training_together(InThisProcess(2)):
        got = dfal.fit(make, data, settings, seed=0)
    assert all(map(torch.equal, got.state_dict().values(), want.state_dict().values()))


def refused(jobs: Any) -> Any:
    raise AssertionError("it is not to be asked")


def brighter(images: Tensor, rng: torch.Generator) -> Tensor:
    return images + 0.1 * torch.rand(len(images), 1, 1, 1, generator=rng)


def test_an_augmentation_of_the_users_is_trained_on_its_own() -> None:
    settings = dfal.Training(epochs=2, augment=f"{__name__}:brighter")
    with training_together(refused):
        dfal.fit(convolutional, some_data(20), settings, seed=0)


def test_a_pool_that_takes_too_much_memory_is_trained_on_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data, settings = some_data(20), dfal.Training(epochs=2, unlabelled="vat")
    monkeypatch.setattr(training, "MOST_BYTES", data.images.nbytes - 1)
    with training_together(refused):
        dfal.fit(convolutional, data, settings, seed=0, unlabelled=dfal.Images(data.images))


def test_labels_that_are_no_classes_are_refused_as_on_its_own() -> None:
    data = dataclasses.replace(some_data(20), labels=torch.full((20,), 3))
    with training_together(refused), pytest.raises(dfal.DfalError, match="has the label 3"):
        dfal.fit(convolutional, data, SETTINGS, seed=0)


def test_memory_that_does_not_suffice_leaves_it_to_one_by_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    want = dfal.fit(convolutional, some_data(20), SETTINGS, seed=0)

    def fails(self: stack.Stack, steps: Any) -> None:
        raise torch.OutOfMemoryError("no memory")

    monkeypatch.setattr(stack.Stack, "run", fails)
    with training_together(InThisProcess(2)):
        got = dfal.fit(convolutional, some_data(20), SETTINGS, seed=0)
    assert all(map(torch.equal, got.state_dict().values(), want.state_dict().values()))
    assert capsys.readouterr().err == "dfal: networks are trained one by one (no memory)\n"


def test_a_network_whose_class_is_not_found_is_left_to_one_by_one() -> None:
    jobs = jobs_of_all_kinds()
    trainer = Together(4)
    structure = pickle.dumps(Residual()).replace(b"Residual", b"Residua1")
    trainer.add("job 0", dataclasses.replace(jobs["job 0"], structure=structure))
    trainer.add("job 1", jobs["job 1"])
    results: dict[str, Trained | None] = {}
    while trainer.busy:
        results |= trainer.advance()
    assert results.pop("job 0") is None
    assert results["job 1"] is not None


def test_a_training_that_finds_no_memory_leaves_those_beside_it_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    jobs = jobs_of_all_kinds()
    trainer = Together(4)
    trainer.add("job 0", jobs["job 0"])
    with monkeypatch.context() as patched:

        def fails(self: StackableTraining, device: str) -> StackableTraining:
            raise torch.OutOfMemoryError("no memory")

        patched.setattr(StackableTraining, "to", fails)
        trainer.add("job 1", jobs["job 1"])
    results: dict[str, Trained | None] = {}
    while trainer.busy:
        results |= trainer.advance()
    assert results["job 1"] is None
    assert results["job 0"] is not None


def test_two_layers_of_dropout_leave_out_other_elements() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Dropout(0.5), nn.Linear(4000, 2))
    structure = stacked_network.skeleton(model.train())
    assert structure is not None
    trained, images = stacked_network.trained_weights(model), torch.ones(1, 4000)
    network = stacked_network.StackedNetwork(structure, trained, {}, images)
    batch = stacked_network.Batch(images[None], torch.eye(2)[None, :1], torch.ones(1, 1))
    keys = torch.tensor([[17, 4]], dtype=torch.int32)
    gradient = network.gradients(network.flat(trained)[None], {}, batch, keys)[0]
    kept = network.unflat(gradient)["3.weight"][0] != 0
    assert kept.double().mean() == pytest.approx(0.25, abs=0.03)


@pytest.mark.gpu
def test_a_graph_of_a_gpu_trains_as_the_cpu_does() -> None:
    jobs = {
        name: dataclasses.replace(
            job,
            trained={weight: tensor.double() for weight, tensor in job.trained.items()},
            images=job.images.double(),
        )
        for name, job in jobs_of_all_kinds().items()
    }
    want = trained(jobs, 2)
    trainer = Together(2)
    for name, job in jobs.items():
        trainer.add(name, dataclasses.replace(job, device="cuda"))
    got: dict[str, Trained | None] = {}
    while trainer.busy:
        got |= trainer.advance()
    (running,) = trainer._stacks.values()
    assert running is not None
    assert running._stack._graph is not None, "its steps are one graph"
    for name, here in want.items():
        there = got[name]
        assert there is not None
        assert there.loss == pytest.approx(here.loss, abs=1e-6)
        for weight, tensor in here.weights.items():
            assert there.weights[weight].device.type == "cpu"
            torch.testing.assert_close(there.weights[weight], tensor, atol=1e-6, rtol=0)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
