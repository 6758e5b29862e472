"""Random noise on a ranking."""

import math
from dataclasses import dataclass

import torch
from torch import nn

import dfal
from strategy_cases import rng


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
            [strategy(nn.Identity(), pool, 1, generator).indices for _ in range(1000)]
        )
        want = torch.tensor(weights) / sum(weights)
        torch.testing.assert_close(drawn.bincount(minlength=4) / 1000, want, atol=0.05, rtol=0)


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
