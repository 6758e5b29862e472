"""What holds for every strategy."""

import copy
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

import dfal
from dfal.protocols import Strategy
from dfal.strategies import STRATEGIES, with_candidates
from strategy_cases import rng

EVERY = [
    *STRATEGIES.values(),
    dfal.DFAL(candidates=None),
    dfal.DFAL(attack=dfal.LinearHead(), twins=False),
    dfal.Entropy(candidates=20),
    dfal.Margin(candidates=20),
    dfal.LeastConfidence(candidates=20),
    dfal.CEAL(candidates=20, threshold=3.0),
    dfal.CoreSet(candidates=20),
    dfal.RobustCoreSet(candidates=20, outliers=3),
    dfal.EGL(candidates=20),
    dfal.BatchBALD(candidates=20, samples=50),
    dfal.Stochastic(dfal.DFAL()),
    dfal.Stochastic(dfal.Margin(candidates=20), form="soft-rank"),
    dfal.Stochastic(dfal.Entropy(), form="softmax", beta=torch.inf),
    dfal.TypiClust(space="features", neighbours=3),
    dfal.ProbCover(space="features", radius=0.3),
    dfal.WithTwins(dfal.Entropy()),
    dfal.WithTwins(dfal.CEAL(threshold=3.0)),
    dfal.WithTwins(dfal.Random(), attack=dfal.FGSM()),
    dfal.ClusterMargin(looks=3),
    dfal.WithCoverage(dfal.Margin(), 0.3),
    dfal.WithCoverage(dfal.DFAL(), 0.5),
]


every = pytest.mark.parametrize("strategy", EVERY, ids=repr)


EVALUATED = {
    **dict.fromkeys(["core-set", "core-set-robust", "core-set-released", "u-herding"], 15 + 3),
    "prob-cover": 1,
}
"""Images that pass through the network where 15 are candidates: more where the 3 labelled images do
as well, 1 where only the number of classes is wanted."""


@every
def test_asks_about_distinct_unlabelled_images(
    strategy: Strategy, trained: nn.Sequential, pool: dfal.Pool
) -> None:
    query = strategy(trained, pool, 10, rng())
    assert len(query.indices) == len(query.scores) == 10
    assert len(query.indices.unique()) == 10
    assert torch.isin(query.indices, pool.unlabelled).all()
    assert not query.scores.isnan().any()


@every
def test_asks_about_all_that_are_left(
    strategy: Strategy, trained: nn.Sequential, pool: dfal.Pool
) -> None:
    query = strategy(trained, pool, 1000, rng())
    assert sorted(query.indices.tolist()) == pool.unlabelled.tolist()


@every
def test_asks_about_nothing_when_nothing_is_left(
    strategy: Strategy, trained: nn.Sequential
) -> None:
    full = dfal.Pool.new(torch.rand(3, 1, 28, 28), {0: 0, 1: 1, 2: 2})
    query = strategy(trained, full, 10, rng())
    assert len(query.indices) == 0
    full.learn(query, [])


@every
def test_no_image_is_no_question(
    strategy: Strategy, trained: nn.Sequential, pool: dfal.Pool
) -> None:
    assert len(strategy(trained, pool, 0, rng()).indices) == 0


@every
def test_a_pool_of_one(strategy: Strategy, trained: nn.Sequential) -> None:
    query = strategy(trained, dfal.Pool.new(torch.rand(1, 1, 28, 28), {}), 10, rng())
    assert query.indices.tolist() == [0]


@every
def test_same_generator_same_question(
    strategy: Strategy, trained: nn.Sequential, pool: dfal.Pool
) -> None:
    first, second = (strategy(trained, pool, 10, rng(5)) for _ in range(2))
    assert torch.equal(first.indices, second.indices)
    assert torch.equal(first.scores, second.scores)
    if first.twins is not None and second.twins is not None:
        assert torch.equal(first.twins, second.twins)


@every
def test_changes_nothing_but_its_generator(strategy: Strategy, pool: dfal.Pool) -> None:
    model = nn.Sequential(
        nn.Flatten(), nn.BatchNorm1d(784), nn.Dropout(0.5), nn.Linear(784, 10)
    ).train()
    model[2].eval()
    modes = [module.training for module in model.modules()]
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    labels, state = pool.labels.clone(), torch.get_rng_state()
    strategy(model, pool, 5, rng())
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert all(
        parameter.requires_grad and parameter.grad is None for parameter in model.parameters()
    )
    assert torch.equal(pool.labels, labels)
    assert torch.equal(torch.get_rng_state(), state)


@every
@pytest.mark.parametrize("scale", [1e4, 1e-4])
def test_extreme_logits(strategy: Strategy, scale: float, pool: dfal.Pool) -> None:
    layer = nn.Linear(784, 10)
    with torch.no_grad():
        layer.weight *= scale
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), layer)
    query = strategy(model, pool, 10, rng())
    assert len(query.indices.unique()) == 10
    assert not query.scores.isnan().any()


@every
def test_constant_and_duplicated_images(strategy: Strategy, trained: nn.Sequential) -> None:
    for image in (torch.zeros(1, 1, 28, 28), torch.rand(1, 1, 28, 28, generator=rng())):
        query = strategy(trained, dfal.Pool.new(image.repeat(40, 1, 1, 1), {3: 0}), 10, rng())
        assert len(query.indices.unique()) == 10
        assert not query.scores.isnan().any()


@every
def test_one_class_only(strategy: Strategy, one_class: nn.Sequential, pool: dfal.Pool) -> None:
    sevens = dfal.Pool.new(pool.images, {0: 7, 7: 7, 59: 7})
    query = strategy(one_class, sevens, 10, rng())
    assert len(query.indices.unique()) == 10
    assert not query.scores.isnan().any()
    sevens.learn(query, torch.full((10,), 7))


@every
def test_ties_are_not_broken_by_the_order_of_the_files(
    strategy: Strategy, trained: nn.Sequential
) -> None:
    same = dfal.Pool.new(torch.full((200, 1, 28, 28), 0.5), {})
    query = strategy(trained, same, 20, rng())
    assert sorted(query.indices.tolist()) != list(range(20))
    assert query.indices.max() > 100


@every
def test_no_label_of_an_unlabelled_image_is_there_to_be_read(
    strategy: Strategy, trained: nn.Sequential, pool: dfal.Pool
) -> None:
    assert (pool.labels[pool.unlabelled] == dfal.UNKNOWN).all()
    assert strategy(trained, pool, 3, rng()).indices.shape == (3,)


@pytest.mark.parametrize("name", STRATEGIES)
def test_only_candidates_pass_through_the_network(
    name: str, trained: nn.Sequential, pool: dfal.Pool
) -> None:
    evaluated = 0

    def count(_: nn.Module, inputs: tuple[Tensor]) -> None:
        nonlocal evaluated
        evaluated = max(evaluated, len(inputs[0]))

    hook = trained.register_forward_pre_hook(count)
    query = with_candidates(STRATEGIES[name], 15)(trained, pool, 10, rng())
    hook.remove()
    assert len(query.indices) == 10
    assert evaluated in ({EVALUATED[name]} if name in EVALUATED else {0, 15})
    few = with_candidates(STRATEGIES[name], 3)(trained, pool, 10, rng())
    assert len(few.indices) == 10, "a batch larger than K is still filled"


def test_candidates_are_drawn_anew_with_each_generator(
    trained: nn.Sequential, pool: dfal.Pool
) -> None:
    first, second = (dfal.DFAL(candidates=15)(trained, pool, 10, rng(seed)) for seed in (0, 1))
    assert set(first.indices.tolist()) != set(second.indices.tolist())


def test_one_logit_networks_work(pool: dfal.Pool) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(784, 1), nn.Flatten(0))
    for strategy in EVERY:
        if "FGSM" not in repr(strategy):
            assert len(strategy(model, pool, 5, rng()).indices.unique()) == 5


@pytest.mark.parametrize(
    "strategy",
    [strategy for strategy in STRATEGIES.values() if hasattr(strategy, "candidates")],
    ids=repr,
)
def test_no_candidates_are_refused(strategy: dfal.DFAL) -> None:
    with pytest.raises(dfal.DfalError, match="candidates = 0"):
        replace(strategy, candidates=0)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: dfal.BALD(passes=1), "passes = 1"),
        (lambda: dfal.BatchBALD(passes=1), "passes = 1"),
        (lambda: dfal.BatchBALD(samples=0), "samples = 0"),
        (lambda: dfal.CEAL(threshold=-1), "threshold = -1"),
        (lambda: dfal.RobustCoreSet(outliers=-1), "outliers = -1"),
        (lambda: dfal.RobustCoreSet(seconds=0), "seconds = 0"),
        (lambda: dfal.Stochastic(dfal.Entropy(), form="gumbel"), "form = 'gumbel'"),
        (lambda: dfal.Stochastic(dfal.Entropy(), beta=-1), "beta = -1"),
        (lambda: dfal.TypiClust(neighbours=0), "neighbours = 0"),
        (lambda: dfal.ProbCover(radius=0), "radius = 0"),
        (lambda: dfal.ProbCover(purity=2), r"purity must be .* \(got 2\)"),
        (lambda: dfal.MaxHerding(sigma=0), "sigma = 0"),
        (lambda: dfal.UHerding(sigma=-1), "sigma = -1"),
        (lambda: dfal.ClusterMargin(factor=0), "factor = 0"),
        (lambda: dfal.ClusterMargin(looks=0), "looks = 0"),
        (lambda: dfal.WithCoverage(dfal.Margin(), 0.0), "share must be above 0"),
    ],
)
def test_settings_that_cannot_be_are_refused(make: Callable[[], Strategy], sentence: str) -> None:
    with pytest.raises(dfal.DfalError, match=sentence):
        make()


@pytest.mark.gpu
@every
def test_a_network_on_a_gpu_selects(
    strategy: Strategy, trained: nn.Sequential, pool: dfal.Pool
) -> None:
    here = strategy(trained, pool, 10, rng())
    there = strategy(copy.deepcopy(trained).cuda(), pool, 10, rng())
    pool.validate(there, 10)
    assert not there.indices.is_cuda
    if "Stochastic" not in repr(strategy) and "BALD" not in repr(strategy):  # they draw there
        assert len(set(here.indices.tolist()) & set(there.indices.tolist())) >= 8
