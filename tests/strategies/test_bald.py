"""BALD and its dropout samples."""

import math

import pytest
import torch
from torch import Tensor, nn

import dfal
from dfal.protocols import Strategy
from strategy_cases import linear, rng


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
