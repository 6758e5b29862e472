"""The contract every strategy keeps, and an independent check of each."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import dfal
from dfal.data.datasets import Dataset
from dfal.protocols import Strategy
from dfal.strategies import STRATEGIES, with_candidates

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
]
every = pytest.mark.parametrize("strategy", EVERY, ids=repr)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def pool(digits: Dataset) -> dfal.Pool:
    """60 digits, three of them labelled."""
    return dfal.Pool.new(digits.images.take(torch.arange(0, 4000, 66)[:60]), {0: 0, 7: 1, 59: 2})


@pytest.fixture(scope="module")
def one_class(pool: dfal.Pool) -> nn.Sequential:
    """LeNet5 that has seen nothing but sevens."""
    sevens = dfal.Pool.new(pool.images, {0: 7, 7: 7, 59: 7})
    return dfal.fit(dfal.lenet5, sevens.labelled_data(), dfal.Training(epochs=20), seed=0)


def linear(weight: list[list[float]]) -> nn.Linear:
    model = nn.Linear(len(weight[0]), len(weight), bias=False)
    with torch.no_grad():
        model.weight[:] = torch.tensor(weight)
    return model


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


EVALUATED = {
    **dict.fromkeys(["core-set", "core-set-robust", "core-set-released", "u-herding"], 15 + 3),
    "prob-cover": 1,
}
"""Images that pass through the network where 15 are candidates: more where the 3 labelled images do
as well, 1 where only the number of classes is wanted."""


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


def reference(f: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """Scores in float64, the lowest to be asked first."""
    p = np.exp(f - f.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    ordered = np.sort(p, axis=1)
    return {
        "entropy": np.where(p > 0, p * np.log(np.where(p > 0, p, 1)), 0).sum(1),
        "margin": ordered[:, -1] - ordered[:, -2],
        "least-confidence": ordered[:, -1],
    }


@pytest.mark.parametrize("name", ["entropy", "margin", "least-confidence"])
def test_uncertainty_asks_what_the_formula_says(
    name: str, trained: nn.Sequential, pool: dfal.Pool
) -> None:
    query = STRATEGIES[name](trained, pool, 10, rng())
    f = dfal.predict(trained, pool.images.take(pool.unlabelled)).double().numpy()
    scores = reference(f)[name]
    want = pool.unlabelled[torch.from_numpy(np.argsort(scores)[:10].copy())]
    assert query.indices.tolist() == want.tolist()
    np.testing.assert_allclose(
        np.sort(np.abs(query.scores.numpy())), np.sort(np.abs(np.sort(scores)[:10])), rtol=1e-4
    )


def test_a_certain_image_is_asked_about_last() -> None:
    pool = dfal.Pool.new(torch.tensor([[1e4], [0.01], [-1e4]]), {})
    model = linear([[1.0], [-1.0]])
    for strategy in (dfal.Entropy(), dfal.Margin(), dfal.LeastConfidence(), dfal.DFAL()):
        assert int(strategy(model, pool, 3, rng()).indices[0]) == 1, strategy


def test_random_is_uniform() -> None:
    pool = dfal.Pool.new(torch.zeros(10, 1), {0: 0, 5: 1})
    counts = torch.zeros(10)
    for seed in range(2000):
        counts[dfal.Random()(nn.Identity(), pool, 2, rng(seed)).indices] += 1
    assert counts[[0, 5]].sum() == 0
    rest = counts[[1, 2, 3, 4, 6, 7, 8, 9]]
    assert ((rest - 500).abs() < 5 * math.sqrt(500)).all()


def test_dfal_asks_about_the_nearest_and_brings_their_twins(
    trained: nn.Sequential, pool: dfal.Pool
) -> None:
    found = dfal.DeepFool()(trained, pool.images.take(pool.unlabelled))
    order = found.distance.argsort()[:10]
    query = dfal.DFAL(candidates=None)(trained, pool, 10, rng())
    assert query.indices.tolist() == pool.unlabelled[order].tolist()
    torch.testing.assert_close(query.scores, found.distance[order], rtol=1e-3, atol=1e-5)
    assert query.twins is not None
    assert query.twinned is not None
    assert torch.equal(query.twinned, query.indices)
    torch.testing.assert_close(query.twins, found.images[order], rtol=1e-3, atol=1e-3)
    assert (
        dfal.predict(trained, query.twins).argmax(1)
        != dfal.predict(trained, pool.images.take(query.indices)).argmax(1)
    ).all()


def test_dfal_streams_a_pool_larger_than_a_chunk(
    monkeypatch: pytest.MonkeyPatch, trained: nn.Sequential, pool: dfal.Pool
) -> None:
    whole = dfal.DFAL(candidates=None)(trained, pool, 12, rng())
    monkeypatch.setattr("dfal.strategies.base.CHUNK_IMAGES", 7)
    chunked = dfal.DFAL(candidates=None)(trained, pool, 12, rng())
    assert whole.indices.tolist() == chunked.indices.tolist()
    assert whole.twins is not None
    assert chunked.twins is not None
    torch.testing.assert_close(whole.twins, chunked.twins, rtol=1e-3, atol=1e-3)
    assert dfal.Entropy()(trained, pool, 9, rng()).indices.tolist()


def test_what_is_not_fooled_comes_last_and_has_no_twin() -> None:
    class HalfFlat(nn.Module):
        """Images above 0.5 are far from any boundary, for their logits do not move."""

        def forward(self, x: Tensor) -> Tensor:
            slope = torch.where(x[:, 0] > 0.5, 0.0, 1.0) * x[:, 0]
            return torch.stack([slope, -slope + 1e-3], dim=1)

    images = torch.tensor([[0.9], [0.2], [0.8], [0.1], [0.7]])
    query = dfal.DFAL(candidates=None)(HalfFlat(), dfal.Pool.new(images, {}), 4, rng())
    assert query.indices[:2].tolist() == [3, 1]
    assert query.scores[2:].isinf().all()
    assert query.twinned is not None
    assert query.twinned.tolist() == [3, 1]


def test_with_twins_asks_what_its_strategy_asks(trained: nn.Sequential, pool: dfal.Pool) -> None:
    alone = dfal.Margin()(trained, pool, 10, rng())
    both = dfal.WithTwins(dfal.Margin())(trained, pool, 10, rng())
    assert torch.equal(alone.indices, both.indices)
    assert both.twins is not None
    found = dfal.DeepFool()(trained, pool.images.take(alone.indices))
    torch.testing.assert_close(both.twins, found.images)


def test_dfal_without_twins_asks_the_same(trained: nn.Sequential, pool: dfal.Pool) -> None:
    with_twins, without = (
        dfal.DFAL()(trained, pool, 10, rng()),
        dfal.DFAL(twins=False)(trained, pool, 10, rng()),
    )
    assert torch.equal(with_twins.indices, without.indices)
    assert without.twins is None


def test_an_image_that_is_not_fooled_is_far_whatever_the_attack_says_of_it(
    trained: nn.Sequential, pool: dfal.Pool
) -> None:
    """An attack may give the length of the way that it went in vain."""

    @dataclass(frozen=True)
    class Partial:
        def __call__(self, model: nn.Module, images: Tensor) -> dfal.Perturbation:
            fooled = torch.arange(len(images)) % 2 == 1
            return dfal.Perturbation(images + 1, torch.arange(len(images)).float(), fooled)

    for strategy in (
        dfal.DFAL(Partial(), candidates=8),
        dfal.BatchDFAL(Partial(), candidates=8, factor=1),
    ):
        query = strategy(trained, pool, 6, rng())
        assert query.scores.tolist() == [1, 3, 5, 7, torch.inf, torch.inf]
        assert query.twinned is not None
        assert torch.equal(query.twinned, query.indices[:4])


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


class InsideDropout(nn.Module):
    """Dropout that nobody can switch from outside, beside a layer that could be but does not
    run."""

    def __init__(self) -> None:
        super().__init__()
        self.head, self.idle = nn.Linear(784, 10), nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(nn.functional.dropout(x.flatten(1), training=self.training))
        return out


@pytest.mark.parametrize(
    "strategy", [dfal.BALD(), dfal.BatchBALD(), dfal.Stochastic(dfal.BALD())], ids=repr
)
def test_bald_refuses_passes_that_are_all_alike(strategy: Strategy, pool: dfal.Pool) -> None:
    with pytest.raises(dfal.DfalError, match="no dropout layer"):
        strategy(nn.Sequential(nn.Flatten(), nn.Linear(784, 10)), pool, 5, rng())
    with pytest.raises(dfal.DfalError, match="passes are all alike"):
        strategy(InsideDropout(), pool, 5, rng())


def test_bald_is_not_troubled_by_black_images() -> None:
    black = dfal.Pool.new(torch.zeros(12, 1, 28, 28), {})
    query = dfal.BALD()(dfal.lenet5(), black, 5, rng())
    torch.testing.assert_close(query.scores, torch.zeros(5), atol=1e-6, rtol=0)


def test_bald_finds_where_dropout_disagrees() -> None:
    """With features dropped, the sign of the first logit is a coin toss where both are large, and
    sure where one is 0."""
    model = nn.Sequential(nn.Dropout(0.5), linear([[30.0, -30.0], [-30.0, 30.0]]))
    pool = dfal.Pool.new(torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [0.5, 0.5]]), {})
    query = dfal.BALD(passes=200)(model, pool, 4, rng())
    # One feature alone: class 1 with chance 1/2, undecided else. Both: a third class, undecided,
    # takes half of the passes.
    assert (query.scores > 0.1).all()
    assert float(query.scores.max()) < math.log(2)


def test_bald_keeps_batch_norm_out_of_it(pool: dfal.Pool) -> None:
    model = nn.Sequential(
        nn.Flatten(), nn.BatchNorm1d(784), nn.Dropout(0.5), nn.Linear(784, 10)
    ).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    dfal.BALD()(model, pool, 5, rng())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_batch_bald_asks_about_no_two_that_tell_the_same(
    trained: nn.Sequential, pool: dfal.Pool
) -> None:
    """Each image is there ten times: BALD asks about one ten times, BatchBALD about ten different
    ones."""
    images = pool.images.take(torch.arange(20)).repeat(10, 1, 1, 1)
    copies = dfal.Pool.new(images, {})
    batch = dfal.BatchBALD(candidates=None, passes=50)(trained, copies, 4, rng())
    assert len((batch.indices % 20).unique()) >= 3
    first = dfal.BALD(passes=50)(trained, copies, 1, rng()).scores
    assert float(batch.scores[0]) > 0.7 * float(first[0]) > 0.1, "networks differ from pass to pass"
    assert (batch.scores[:-1] >= batch.scores[1:] - 0.02).all()


def test_ceal_guesses_what_is_sure_and_only_for_a_round(
    trained: nn.Sequential, pool: dfal.Pool
) -> None:
    strategy = dfal.CEAL(threshold=0.3, decay=0.1)
    query = strategy(trained, pool, 10, rng())
    f = dfal.predict(trained, pool.images.take(pool.unlabelled))
    sure = pool.unlabelled[(torch.special.entr(f.softmax(1)).sum(1) < 0.3)]
    assert query.guessed is not None
    assert query.guesses is not None
    assert 0 < len(query.guessed) < len(pool.unlabelled) - 10
    assert set(query.guessed.tolist()) == set(sure.tolist()) - set(query.indices.tolist())
    assert torch.equal(
        query.guesses, dfal.predict(trained, pool.images.take(query.guessed)).argmax(1)
    )
    assert torch.equal(query.indices, dfal.Entropy()(trained, pool, 10, rng()).indices)

    answers = torch.zeros(10, dtype=torch.int64)
    later = pool.learn(query, answers)
    assert later.annotations == pool.annotations + 10
    assert later.labelled_data_size == later.annotations + len(query.guessed)
    assert torch.isin(query.guessed, later.unlabelled).all()
    second = strategy(trained, later, 10, rng())  # the threshold is 0.2 now
    assert second.guessed is not None
    assert len(second.guessed) < len(query.guessed)
    for _ in range(3):
        later = later.learn(dfal.Query.nothing(), [])
    none = strategy(trained, later, 10, rng())
    assert none.guessed is not None
    assert len(none.guessed) == 0


def test_core_set_asks_about_the_farthest_on_a_line() -> None:
    pool = dfal.Pool.new(torch.tensor([[0.0], [1.0], [2.0], [5.0], [9.0], [4.9]]), {0: 0})
    model = nn.Sequential(nn.Flatten(), nn.Linear(1, 2))
    query = dfal.CoreSet()(model, pool, 3, rng())
    assert query.indices.tolist() == [4, 5, 2]
    assert query.scores.tolist() == pytest.approx([9, 4.1, 2], rel=1e-5)
    robust = dfal.RobustCoreSet()(model, pool, 2, rng())
    assert robust.scores.tolist() == pytest.approx(
        [2, 2], rel=1e-5
    )  # 9, and 5 or 4.9: the image at 2 is left, 2 from 0
    assert robust.bound == robust.scores[0]
    outlier = dfal.RobustCoreSet(outliers=1)(model, pool, 1, rng())
    assert outlier.scores.tolist() == pytest.approx([2], rel=1e-5)
    assert int(outlier.indices[0]) in {3, 5}


def test_stochastic_without_noise_is_the_strategy(trained: nn.Sequential, pool: dfal.Pool) -> None:
    for strategy in (dfal.Entropy(), dfal.Margin(), dfal.DFAL(), dfal.EGL(last_layer=True)):
        plain = strategy(trained, pool, 7, rng())
        for form in ("power", "softmax", "soft-rank"):
            query = dfal.Stochastic(strategy, form=form, beta=torch.inf)(trained, pool, 7, rng())
            assert query.indices.tolist() == plain.indices.tolist(), (strategy, form)
            assert torch.equal(query.scores, plain.scores)
            if plain.twins is not None:
                assert query.twins is not None
                assert query.twinned is not None
                for image in plain.indices.tolist():
                    mine, theirs = (
                        query.twins[query.twinned == image],
                        plain.twins[plain.twinned == image],
                    )
                    torch.testing.assert_close(mine, theirs, atol=1e-3, rtol=1e-3)


def test_stochastic_draws_in_proportion_to_the_power() -> None:
    """p = s^β / Σ s^β, for one draw (Kirsch et al. 2023, section 3)."""

    @dataclass(frozen=True)
    class Given:
        def __call__(
            self, model: nn.Module, pool: dfal.Pool, k: int, rng: torch.Generator
        ) -> dfal.Query:
            return dfal.Query(torch.tensor([2, 0, 1, 3]), torch.tensor([4.0, 2.0, 1.0, 0.0]))

    pool = dfal.Pool.new(torch.zeros(4, 1), {})
    for form, beta, weights in (
        ("power", 1, [2.0, 1, 4, 0]),
        ("power", 2, [4.0, 1, 16, 0]),
        ("softmax", 0.5, [math.e, math.e**0.5, math.e**2, 1]),
        ("soft-rank", 1, [1 / 2, 1 / 3, 1, 1 / 4]),
        ("power", 0, [1.0, 1, 1, 1]),
    ):
        strategy = dfal.Stochastic(Given(), form=form, beta=beta)
        generator = rng(3)
        drawn = torch.cat(
            [strategy(nn.Identity(), pool, 1, generator).indices for _ in range(4000)]
        )
        want = torch.tensor(weights) / sum(weights)
        torch.testing.assert_close(drawn.bincount(minlength=4) / 4000, want, atol=0.03, rtol=0)


def test_stochastic_wants_the_small_where_the_strategy_does(
    trained: nn.Sequential, pool: dfal.Pool
) -> None:
    nearest = set(
        dfal.DFAL(candidates=None, twins=False)(trained, pool, 20, rng()).indices.tolist()
    )
    asked = [
        dfal.Stochastic(dfal.DFAL(candidates=None, twins=False), beta=8)(
            trained, pool, 5, rng(seed)
        ).indices.tolist()
        for seed in range(5)
    ]
    assert len({tuple(one) for one in asked}) > 1
    assert sum(image in nearest for one in asked for image in one) > 20


@pytest.mark.parametrize("space", ["pixels", "features", "FILE"])
@pytest.mark.parametrize("kind", [dfal.TypiClust, dfal.ProbCover, dfal.MaxHerding, dfal.UHerding])
def test_first_labels_come_from_all_heaps(
    kind: type[dfal.TypiClust], space: str, tmp_path: Path, trained: nn.Sequential
) -> None:
    """Three heaps of digits, one of each class: the first three labels are one of each."""
    generator = rng(1)
    digits = torch.rand(3, 1, 28, 28, generator=generator).round()
    images = (
        digits.repeat_interleave(15, 0) + 0.05 * torch.rand(45, 1, 28, 28, generator=generator)
    ).clamp(0, 1)
    pool = dfal.Pool.new(images, {})
    if space == "FILE":
        space = str(tmp_path / "rows.npy")
        np.save(space, images.flatten(1).numpy())
    elif space == "features":
        trained = nn.Sequential(nn.Flatten(), linear(torch.eye(784).tolist()), nn.Linear(784, 10))
    query = kind(space=space)(trained, pool, 3, rng())
    assert sorted((query.indices // 15).tolist()) == [0, 1, 2]
    asked = pool.learn(query, query.indices // 15)
    again = kind(space=space)(trained, asked, 3, rng())
    assert not set(again.indices.tolist()) & set(query.indices.tolist())


def test_an_embedding_must_have_a_row_for_each_image(
    tmp_path: Path, trained: nn.Sequential, pool: dfal.Pool
) -> None:
    path = tmp_path / "rows.npy"
    np.save(path, np.zeros((7, 3)))
    with pytest.raises(dfal.DfalError, match="60 rows are needed"):
        dfal.TypiClust(space=str(path))(trained, pool, 3, rng())
    np.save(path, np.full((60, 3), np.nan))
    with pytest.raises(dfal.DfalError, match="NaN or infinite"):
        dfal.TypiClust(space=str(path))(trained, pool, 3, rng())
    np.save(path, np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(dfal.DfalError, match="cannot be read"):
        dfal.TypiClust(space=str(path))(trained, pool, 3, rng())
    with pytest.raises(dfal.DfalError, match="neither 'features', 'pixels', nor"):
        dfal.TypiClust(space="feature")


def test_cluster_margin_asks_about_small_margins_of_all_kinds(
    trained: nn.Sequential, pool: dfal.Pool
) -> None:
    query = dfal.ClusterMargin(factor=3)(trained, pool, 6, rng())
    smallest = dfal.Margin()(trained, pool, 18, rng())
    assert torch.isin(query.indices, smallest.indices).all()
    scores = dict(zip(smallest.indices.tolist(), smallest.scores.tolist(), strict=True))
    assert query.scores.tolist() == [scores[image] for image in query.indices.tolist()]
    all_of_them = dfal.ClusterMargin(factor=1)(trained, pool, 6, rng())
    assert set(all_of_them.indices.tolist()) == set(smallest.indices[:6].tolist())


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
        (lambda: dfal.ProbCover(purity=2), "purity = 2"),
        (lambda: dfal.MaxHerding(sigma=0), "sigma = 0"),
        (lambda: dfal.UHerding(sigma=-1), "sigma = -1"),
        (lambda: dfal.ClusterMargin(factor=0), "factor = 0"),
    ],
)
def test_settings_that_cannot_be_are_refused(make: Callable[[], Strategy], sentence: str) -> None:
    with pytest.raises(dfal.DfalError, match=sentence):
        make()


def test_badge_begins_with_the_longest_gradient_of_the_last_layer(
    trained: nn.Sequential, pool: dfal.Pool
) -> None:
    query = dfal.BADGE()(trained, pool, 5, rng())
    images = pool.images.take(pool.unlabelled)
    p, x = dfal.predict(trained, images).softmax(1), dfal.features(trained, images)
    error = p - nn.functional.one_hot(p.argmax(1), 10)
    gradients = (error.unsqueeze(2) * x.unsqueeze(1)).flatten(1)
    longest = gradients.norm(dim=1).argmax()
    assert int(query.indices[0]) == int(pool.unlabelled[longest])
    torch.testing.assert_close(query.scores[0], gradients[longest].norm(), rtol=1e-4, atol=1e-5)


def test_u_herding_covers_what_the_network_hesitates_about() -> None:
    sure, torn = torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 1.0]])
    pool = dfal.Pool.new(torch.cat([sure.repeat(6, 1), torn.repeat(4, 1)]), {})
    query = dfal.UHerding(space="pixels", sigma=0.1)(
        linear([[9.0, 0.0], [0.0, 9.0]]), pool, 1, rng()
    )
    assert int(query.indices[0]) >= 6
    assert float(query.scores[0]) == pytest.approx(4, abs=0.05)


def test_prob_cover_counts_what_lies_within_the_radius_on_the_unit_sphere(tmp_path: Path) -> None:
    """Angles: three 0.55 apart, which is further than 0.5; two 0.1 apart. Lengths do not count."""
    angles = torch.tensor([-0.55, 0.0, 0.55, 2.0, 2.1])
    lengths = torch.tensor([1.0, 3, 5, 1, 9]).unsqueeze(1)
    pool = dfal.Pool.new(torch.stack([angles.cos(), angles.sin()], dim=1) * lengths, {})
    np.save(tmp_path / "rows.npy", pool.images.array)
    for space in ("pixels", str(tmp_path / "rows.npy")):
        query = dfal.ProbCover(space=space, radius=0.5)(nn.Linear(2, 2), pool, 1, rng())
        assert int(query.indices[0]) in {3, 4}
        assert query.scores.tolist() == [2]


def test_a_part_of_a_question_keeps_the_twins_of_its_images() -> None:
    twins = torch.arange(3.0).unsqueeze(1)
    query = dfal.Query(
        torch.tensor([7, 5, 3, 1]), torch.arange(4.0), twinned=torch.tensor([7, 3, 1]), twins=twins
    )
    part = query.only(torch.tensor([3, 1, 0]))
    assert part.indices.tolist() == [1, 5, 7]
    assert part.scores.tolist() == [3, 1, 0]
    assert part.twinned is not None
    assert part.twins is not None
    assert part.twinned.tolist() == [1, 7]
    assert part.twins.tolist() == [[2], [0]]


def test_released_entropy_asks_about_the_most_certain_first() -> None:
    """Images whose probabilities were rounded to 0 and 1 come before everything."""
    images = torch.cat([torch.full((3, 1, 1, 2), 1e4), torch.rand(7, 1, 1, 2)])
    images[:3, ..., 1] = 0
    model = nn.Sequential(nn.Flatten(), nn.Linear(2, 2, bias=False))
    model[1].weight.data = torch.eye(2)
    pool = dfal.Pool.new(images, {9: 0})
    query = dfal.Entropy(guarded=False)(model, pool, 3, rng())
    assert set(query.indices.tolist()) == {0, 1, 2}
    assert query.scores.isinf().all()
    guarded = dfal.Entropy()(model, pool, 3, rng())
    assert not set(guarded.indices.tolist()) & {0, 1, 2}


def test_released_core_set_is_far_in_the_class_probabilities(
    trained: nn.Sequential, digits: Dataset
) -> None:
    """Beside a plain loop."""
    pool = dfal.Pool.new(digits.images.take(torch.arange(200)), {0: 0, 1: 1, 2: 2})
    query = dfal.CoreSet(softmax=True)(trained, pool, 8, rng())
    p = dfal.predict(trained, digits.images.take(torch.arange(200))).double().softmax(1)
    chosen, radii = [0, 1, 2], []
    for _ in range(8):
        gaps = torch.cdist(p, p[chosen]).min(1).values
        radii.append(float(gaps.max()))
        chosen.append(int(gaps.argmax()))
    assert query.indices.tolist() == chosen[3:]
    torch.testing.assert_close(
        query.scores.double(), torch.tensor(radii, dtype=torch.float64), rtol=1e-4, atol=1e-5
    )
    assert query.indices.tolist() != dfal.CoreSet()(trained, pool, 8, rng()).indices.tolist()


def test_released_ceal_is_entropy(trained: nn.Sequential, digits: Dataset) -> None:
    pool = dfal.Pool.new(digits.images, {0: 0, 1: 1})
    ours, entropy = (
        one(trained, pool, 10, rng())
        for one in (dfal.CEAL(candidates=99, guesses=False), dfal.Entropy(candidates=99))
    )
    assert torch.equal(ours.indices, entropy.indices)
    assert ours.guessed is None
    assert dfal.CEAL(candidates=99, threshold=2)(trained, pool, 10, rng()).guessed is not None
