"""Algorithm 1 of the paper, one screen, nothing else."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn

from dfal.arguments import check_function, check_strategy, kind_of, whole
from dfal.errors import DfalError
from dfal.pool import Pool
from dfal.protocols import Oracle, Strategy
from dfal.query import Query
from dfal.seeding import derive_seed, generator


@dataclass(frozen=True)
class Round:
    """What one round has come to: L and U, the network trained on L, and what it asks about
    next."""

    pool: Pool
    model: nn.Module
    query: Query


def active_learning(
    pool: Pool,
    fit: Callable[[Pool, int], nn.Module],
    strategy: Strategy,
    oracle: Oracle,
    *,
    annotations: int | None = None,
    batch: int = 10,
    seed: int = 0,
) -> Iterator[Round]:
    """Train, choose, yield, ask, learn, until N annotations are bought.

    A round is yielded before the oracle is asked, so that breaking off costs no annotation. The
    last round, at N annotations or with U empty, asks about nothing.

    Args:
        pool: with the first labels; a pool in its 7th round goes on as if it had never been
        stopped.
        fit: (pool, seed) → a network trained on `pool.labelled_data()`.
        strategy: chooses whom to ask about.
        oracle: gives the labels.
        annotations: N, the first labels included; None for all of the pool.
        batch: n_query, how many to ask about in a round.
        seed: with the round it fixes everything random.

    Raises:
        DfalError: for a batch below 1, and where a question or its answers do not fit the pool.
    """
    _refuse_misuse(pool, fit, strategy, oracle)
    batch, seed = whole("batch", batch), whole("seed", seed)
    annotations = None if annotations is None else whole("annotations", annotations)
    if batch < 1:
        raise DfalError(f"batch = {batch} would ask about nothing: give 1 or more")
    while True:
        model = fit(pool, derive_seed(seed, pool.round, "fit"))  # A_k ← train(H, L_k)
        missing = len(pool.unlabelled) if annotations is None else annotations - pool.annotations
        k = min(batch, missing, len(pool.unlabelled))
        rng = generator(seed, pool.round, "select")
        query = pool.asked(strategy(model, pool, k, rng), k) if k > 0 else Query.nothing()  # Q_k
        yield Round(pool, model, query)
        if k <= 0:
            return
        pool = pool.learn(query, oracle(query.indices))  # L ← L ∪ {(x, y), (x + r, y)}


def _refuse_misuse(pool: Any, fit: Any, strategy: Any, oracle: Any) -> None:
    """Raise unless these are what `active_learning` is called with."""
    if not isinstance(pool, Pool):
        raise DfalError(
            f"the pool must be a dfal.Pool, but it is {kind_of(pool)}: give dfal.Pool.new(images,"
            " known)"
        )
    cure = (
        "give lambda pool, seed: dfal.fit(dfal.lenet5, pool.labelled_data(), dfal.Training(), seed)"
    )
    if isinstance(fit, nn.Module):
        raise DfalError(
            "fit must be a function (pool, seed) that returns a trained network, but it is a"
            f" network: {cure}"
        )
    check_function("fit", fit, ("pool", "seed"), cure)
    check_strategy(strategy)
    check_function(
        "the oracle",
        oracle,
        ("indices",),
        "give a function that returns a class for each, lambda i: labels[i]",
    )
