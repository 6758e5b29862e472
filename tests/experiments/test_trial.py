"""A trial is its configuration: text and back, pairs by seed, resumed anywhere."""

import dataclasses
import itertools
import json

import pytest
import torch
from torch import Tensor, nn

import dfal
from dfal.data.datasets import Dataset
from dfal.experiments.store import Record
from dfal.experiments.trial import Trial
from dfal.experiments.trial_progress import TrialProgress
from dfal.strategies import STRATEGIES, name_of, named

QUICK = Trial(
    annotations=40, batch=10, training=dfal.Training(epochs=3), strategy=dfal.DFAL(candidates=30)
)


def lines(records: list[Record]) -> list[tuple[object, ...]]:
    """Everything in the records but the clocks, comparable to the bit."""
    return [
        (
            record.round,
            record.query.indices.tolist(),
            record.query.scores.tolist(),
            None if record.query.twins is None else record.query.twins.numpy().tobytes(),
            record.answers.tolist(),
            record.seen.tolist(),
            record.twins_seen.tolist(),
            dict(record.measurements),
        )
        for record in records
    ]


def softmax_network(image: tuple[int, int, int], classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(784, classes), nn.Softmax(1))


def three_class_network(image: tuple[int, int, int], classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 3))


def colour_network(image: tuple[int, int, int], classes: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 1, 3), nn.Flatten(), nn.Linear(26 * 26, classes))


@pytest.mark.parametrize(
    "strategy",
    [*STRATEGIES.values(), dfal.WithTwins(dfal.Margin(), dfal.DeepFool(p=torch.inf, clip=(0, 1)))],
    ids=repr,
)
def test_text_and_back(strategy: dfal.Strategy) -> None:
    trial = dataclasses.replace(QUICK, strategy=strategy, seed=3)
    again = Trial.from_json(trial.to_json())
    assert again == trial
    assert again.id == trial.id
    assert json.loads(trial.to_json())


def test_the_id_depends_on_every_setting() -> None:
    others = [
        dataclasses.replace(QUICK, seed=1),
        dataclasses.replace(QUICK, strategy=dfal.DFAL(candidates=31)),
        dataclasses.replace(
            QUICK, strategy=dfal.DFAL(candidates=30, attack=dfal.DeepFool(overshoot=0.01))
        ),
        dataclasses.replace(QUICK, training=dfal.Training(epochs=4)),
    ]
    assert len({trial.id for trial in [QUICK, *others]}) == 5


THOROUGH = dfal.Training(
    learning_rate=5e-4, training_batch=16, epochs=20, holdout=0.2, patience=3, restarts=5
)
IDS = {
    "88ca169baebfa49a": Trial(),
    "460690fd82bb10dd": Trial(seed=3, dataset="mnist", model="vgg8", annotations=1000),
    "40e0bd6c6daf572a": Trial(strategy=dfal.DFAL(candidates=None, twins=False, exact=True)),
    "603266f0c39627e7": Trial(strategy=named("dfal-released")),
    "0ac2d7212b2b61f5": Trial(strategy=dfal.CEAL(threshold=0.19), training=THOROUGH),
    "b7d300d63857d012": Trial(dataset="photos", device="cuda:1", strategy=named("core-set+twins")),
    "558c407b3073bee8": Trial(
        dataset="photos/some.npz",
        model="mine:network",
        strategy=dfal.WithTwins(dfal.Margin(), dfal.FGSM()),
    ),
    "bcddddd7fc584378": Trial(
        strategy=dfal.WithTwins(
            dfal.Stochastic(dfal.BALD()), dfal.DeepFool(p=float("inf"), clip=(0, 1))
        )
    ),
    "0aa6794c650ef585": Trial(
        strategy=dfal.TypiClust(space="rows.npy"), batch=5, first=5, annotations=30
    ),
}
"""As the sources of commit 1f115f8 reckon them. They are written down: stores are found by them."""


@pytest.mark.parametrize("written", IDS)
def test_the_id_of_a_configuration_never_changes(written: str) -> None:
    assert IDS[written].id == written
    assert Trial.from_json(IDS[written].to_json()).id == written


def test_a_setting_that_was_added_is_stored_unless_it_is_at_its_default() -> None:
    plain, exact = (
        dataclasses.replace(QUICK, strategy=dfal.DFAL(exact=exact)) for exact in (False, True)
    )
    assert "exact" not in plain.to_json()
    assert Trial.from_json(plain.to_json()) == plain
    assert Trial.from_json(exact.to_json()) == exact
    assert plain.id != exact.id


@dataclasses.dataclass(frozen=True)
class Mine:
    """A strategy of the user's."""

    power: float = 2
    candidates: int | None = None

    def __call__(
        self, model: nn.Module, pool: dfal.Pool, k: int, rng: torch.Generator
    ) -> dfal.Query:
        return dfal.Random()(model, pool, k, rng)


def plain(model: nn.Module, pool: dfal.Pool, k: int, rng: torch.Generator) -> dfal.Query:
    return dfal.Random()(model, pool, k, rng)


class Stateful:
    def __call__(
        self, model: nn.Module, pool: dfal.Pool, k: int, rng: torch.Generator
    ) -> dfal.Query:
        return dfal.Random()(model, pool, k, rng)


an_object, a_setting = Stateful(), Mine(3)


@pytest.mark.parametrize(
    ("strategy", "name"),
    [
        (Mine(), "test_trial:Mine(power=2)"),
        (plain, "test_trial:plain"),
        (dfal.WithTwins(Mine(3, 20)), "test_trial:Mine(power=3)+twins"),
        (named("test_trial:Mine", imports=True), "test_trial:Mine(power=2)"),
        (named("test_trial:a_setting", imports=True), "test_trial:Mine(power=3)"),
        (named("test_trial:plain+twins", imports=True), "test_trial:plain+twins"),
        (named("test_trial:an_object", imports=True), "test_trial:an_object"),
        (named("test_trial:Stateful", imports=True), "test_trial:Stateful"),
    ],
)
def test_a_strategy_of_ones_own_is_read_without_its_code_and_run_with_it(
    digits: Dataset, strategy: dfal.Strategy, name: str
) -> None:
    trial = dataclasses.replace(QUICK, strategy=strategy, annotations=20)
    read = Trial.from_json(trial.to_json())
    assert (read.id, name_of(read.strategy), name_of(strategy)) == (trial.id, name, name)
    assert hash(read) == hash(Trial.from_json(read.to_json()))
    assert read == Trial.from_json(read.to_json())
    with pytest.raises(
        dfal.DfalError,
        match=r"is none of dfal's own and a store may name no code: say --strategy test_trial:",
    ):
        read.check(digits)
    again = Trial.from_json(trial.to_json(), [strategy])
    again.check(digits)
    assert lines(list(again.run(digits))) == lines(list(trial.run(digits)))


def test_a_strategy_that_no_name_finds_is_refused_with_the_way_out() -> None:
    def local(model: nn.Module, pool: dfal.Pool, k: int, rng: torch.Generator) -> dfal.Query:
        return plain(model, pool, k, rng)

    for strategy in (local, Stateful()):
        with pytest.raises(
            dfal.DfalError,
            match="make it a frozen dataclass, or a function at the top of its module",
        ):
            dataclasses.replace(QUICK, strategy=strategy).to_json()


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("nowhere:Mine", "the strategy 'nowhere:Mine' cannot be found"),
        ("test_trial:nothing", "there is no 'nothing' in"),
        ("test_trial:QUICK", "is Trial: a function .* is needed"),
        ("test_trial:QUICK.seed", "is int: a function"),
        ("dfal.strategies:WithTwins", "cannot be made without arguments"),
    ],
)
def test_a_name_that_is_no_strategy_is_refused(name: str, sentence: str) -> None:
    with pytest.raises(dfal.DfalError, match=sentence):
        named(name, imports=True)
    with pytest.raises(dfal.DfalError, match="there is no strategy"):
        named(name)


def test_rounds_are_as_the_configuration_says(digits: Dataset) -> None:
    records = list(QUICK.run(digits))
    assert [record.round for record in records] == [0, 1, 2, 3]
    assert [record.measurements["annotations"] for record in records] == [10, 20, 30, 40]
    assert [record.measurements["labelled_data"] for record in records] == [
        10,
        30,
        50,
        70,
    ], "2 · annotations − 10"
    assert [record.last for record in records] == [False, False, False, True]
    for record in records:
        assert torch.equal(record.answers, digits.labels[record.query.indices])
        assert 0 <= record.measurements["accuracy"] <= 1
        assert set(record.costs) >= {"fit", "measure"}
        if record.query.twins is not None:
            assert (record.twins_seen != record.seen).all(), (
                "a twin is another class than its image for the network"
            )
    asked = torch.cat([record.query.indices for record in records])
    assert len(asked.unique()) == 30


def test_accuracy_is_that_of_the_test_set(digits: Dataset) -> None:
    perfect = dataclasses.replace(digits, test_images=digits.images, test_labels=digits.labels)
    trial = dataclasses.replace(QUICK, annotations=10, first=10, training=dfal.Training(epochs=30))
    (record,) = trial.run(perfect)
    pool = trial.first_pool(digits)
    model = trial._fit(digits, pool, dfal.derive_seed(0, 0, "fit"), TrialProgress())
    right = dfal.predict(model, digits.images.take(torch.arange(4000))).argmax(1) == digits.labels
    assert record.measurements["accuracy"] == int(right.sum()) / 4000


@pytest.mark.parametrize("stopped", [1, 2, 3])
def test_resumed_is_bit_for_bit_the_same(digits: Dataset, stopped: int) -> None:
    whole = list(QUICK.run(digits))
    torch.rand(stopped)
    rest = list(QUICK.run(digits, past=whole[:stopped]))
    assert lines(whole[:stopped] + rest) == lines(whole)
    assert list(QUICK.run(digits, past=whole)) == []


def test_strategies_are_paired_by_seed(digits: Dataset) -> None:
    firsts = [
        next(dataclasses.replace(QUICK, strategy=STRATEGIES[name]).run(digits))
        for name in ("dfal", "random", "margin")
    ]
    assert len({record.measurements["accuracy"] for record in firsts}) == 1
    other = next(dataclasses.replace(QUICK, seed=1).run(digits))
    assert other.measurements["accuracy"] != firsts[0].measurements["accuracy"]


def test_the_global_generator_is_left_alone(digits: Dataset) -> None:
    state = torch.get_rng_state()
    list(itertools.islice(QUICK.run(digits), 2))
    assert torch.equal(torch.get_rng_state(), state)


def test_any_module_works_unchanged(digits: Dataset) -> None:
    trial = dataclasses.replace(QUICK, model="small_networks:plain_network", annotations=20)
    assert [record.measurements["annotations"] for record in trial.run(digits)] == [10, 20]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"annotations": 4001}, "annotations = 4001 is more than the 4000 images of the pool"),
        ({"annotations": 5}, "annotations must not be fewer than the first 10"),
        ({"batch": 0}, r"batch must be 1 or more images \(got 0\)"),
        ({"seed": -1}, r"seed must be 0 or more \(got -1\)"),
        (
            {"device": "tpu"},
            r"^there is no device 'tpu': use cpu, cuda, or cuda:1 for the second GPU$",
        ),
        (
            {"training": dfal.Training(holdout=0.99)},
            "holdout = 0.99 leaves none of 10 annotated images to train on",
        ),
        ({"model": "lenet"}, "did you mean 'lenet5'"),
        ({"model": f"{__name__}:softmax_network"}, "returns probabilities"),
        (
            {"model": f"{__name__}:three_class_network"},
            "returns 3 logits an image, but mnist-5k has 10 classes",
        ),
        ({"model": f"{__name__}:colour_network"}, r"cannot take images of shape \(1, 28, 28\)"),
    ],
)
def test_what_cannot_run_is_refused_at_once(
    digits: Dataset, change: dict[str, object], sentence: str
) -> None:
    with pytest.raises(dfal.DfalError, match=sentence):
        next(dataclasses.replace(QUICK, **change).run(digits))  # type: ignore[arg-type]


def log_softmax_network(image: tuple[int, int, int], classes: int) -> nn.Module:
    last = nn.Linear(784, classes)
    nn.init.zeros_(last.weight)
    return nn.Sequential(nn.Flatten(), last, nn.LogSoftmax(1))


def too_many(model: nn.Module, pool: dfal.Pool, k: int, rng: torch.Generator) -> dfal.Query:
    return dfal.Random()(model, pool, k + 1, rng)


def failing(model: nn.Module, pool: dfal.Pool, k: int, rng: torch.Generator) -> dfal.Query:
    raise KeyError("scores")


@pytest.mark.parametrize(
    ("strategy", "sentence"),
    [
        (
            dfal.BADGE(),
            "badge cannot select images: the network does not end in its last linear layer",
        ),
        (dfal.BALD(), "bald cannot select images: the network has no dropout layer"),
        (
            too_many,
            "test_trial:too_many cannot select images: the strategy queries 2 images, but",
        ),
        (
            failing,
            (
                r"the strategy test_trial:failing fails \(KeyError: 'scores', in test_trial.py,"
                r" line \d+\)"
            ),
        ),
    ],
)
def test_a_strategy_that_cannot_use_the_network_is_refused_before_anything_runs(
    digits: Dataset, strategy: dfal.Strategy, sentence: str
) -> None:
    trial = dataclasses.replace(QUICK, model=f"{__name__}:log_softmax_network", strategy=strategy)
    with pytest.raises(dfal.DfalError, match=sentence):
        trial.check(digits)
    dataclasses.replace(trial, strategy=dfal.DFAL()).check(digits)


@pytest.mark.parametrize("strategy", STRATEGIES.values(), ids=STRATEGIES.keys())
def test_every_strategy_passes_the_check(digits: Dataset, strategy: dfal.Strategy) -> None:
    dataclasses.replace(QUICK, strategy=strategy).check(digits)


def test_an_error_in_a_round_names_trial_and_round(digits: Dataset) -> None:
    def late(model: nn.Module, pool: dfal.Pool, k: int, rng: torch.Generator) -> dfal.Query:
        return dfal.Random()(model, pool, k, rng) if pool.round == 0 else dfal.Query.nothing()

    with pytest.raises(
        dfal.DfalError, match=r"late.* seed 2, round 1: the strategy queries 0 images"
    ):
        list(dataclasses.replace(QUICK, strategy=late, seed=2).run(digits))


def test_a_device_that_is_not_there_is_refused(digits: Dataset) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    with pytest.raises(dfal.DfalError, match="device 'cuda' cannot be used"):
        next(dataclasses.replace(QUICK, device="cuda").run(digits))


def test_test_images_are_never_asked_about(digits: Dataset) -> None:
    marked: list[Tensor] = []

    def watch(model: nn.Module, pool: dfal.Pool, k: int, rng: torch.Generator) -> dfal.Query:
        marked.append(pool.images.take(pool.unlabelled[:1]))
        assert len(pool.images) == len(digits.images)
        return dfal.Random()(model, pool, k, rng)

    trial = dataclasses.replace(QUICK, strategy=watch, annotations=20)
    assert len(list(trial.run(digits))) == 2
    assert len(marked) == 1


def test_a_seed_has_its_own_first_labels(digits: Dataset) -> None:
    first, again, other = (
        dataclasses.replace(QUICK, seed=seed).first_pool(digits).labelled.tolist()
        for seed in (0, 0, 1)
    )
    assert first == again
    assert first != other


@pytest.mark.parametrize(
    "strategy",
    [
        dfal.CEAL(candidates=40, threshold=2.2),
        dfal.RobustCoreSet(candidates=40),
        dfal.BatchDFAL(candidates=40),
        dfal.BatchBALD(candidates=40, samples=100),
        dfal.TypiClust(candidates=40),
        dfal.Stochastic(dfal.BALD(candidates=40)),
    ],
    ids=repr,
)
def test_every_kind_of_question_goes_on_as_if_it_had_never_stopped(
    strategy: dfal.Strategy, digits: Dataset
) -> None:
    trial = dataclasses.replace(QUICK, strategy=strategy)
    whole = list(trial.run(digits))
    assert lines(whole[:2] + list(trial.run(digits, whole[:2]))) == lines(whole)


def test_guesses_are_trained_on_and_cost_nothing(digits: Dataset) -> None:
    trial = dataclasses.replace(QUICK, strategy=dfal.CEAL(candidates=40, threshold=10, decay=0))
    records = list(trial.run(digits))
    assert [record.measurements["annotations"] for record in records] == [10, 20, 30, 40]
    assert [record.measurements["labelled_data"] for record in records] == [
        10,
        50,
        60,
        70,
    ], "30 of 40 candidates are guessed"


def test_what_was_proved_is_stored(digits: Dataset) -> None:
    first, *_, last = dataclasses.replace(QUICK, strategy=dfal.RobustCoreSet(candidates=40)).run(
        digits
    )
    assert first.measurements["bound"] == pytest.approx(float(first.query.scores[0]))
    assert "bound" not in last.measurements


@pytest.mark.gpu
def test_a_trial_runs_and_resumes_on_a_gpu(digits: Dataset) -> None:
    trial = dataclasses.replace(QUICK, device="cuda")
    whole = list(trial.run(digits))
    resumed = [*whole[:2], *trial.run(digits, whole[:2])]
    assert [record.measurements["annotations"] for record in resumed] == [10, 20, 30, 40]
    assert lines(resumed[:2]) == lines(whole[:2])
    assert not any(record.seen.is_cuda or record.answers.is_cuda for record in resumed)
    assert all(record.query.twins is None or not record.query.twins.is_cuda for record in resumed)
