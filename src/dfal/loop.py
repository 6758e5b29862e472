"""Algorithm 1 of the paper: train, select, query, learn."""

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
    """Hold one round: L and U, the network trained on L, and the query of that network."""

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
    """Yield the rounds of active learning, until N annotations are reached.

    A round is yielded before the oracle is called, so that stopping costs no annotation. The query
    of the last round, at N annotations or with U empty, has no image.

    Args:
        pool: with the first labels; a pool of round 7 resumes as if it had never been stopped.
        fit: (pool, seed) → a network trained on `pool.labelled_data()`.
        strategy: selects the images to label.
        oracle: labels them.
        annotations: N, the first labels included; None for all of the pool.
        batch: n_query, the number of images to label in a round.
        seed: fixes, together with the round, everything random.

    Raises:
        DfalError: for a batch below 1, for other wrong arguments, and where a query or its answers
            do not fit the pool.

    Source: Ducoffe & Precioso 2018, Algorithm 1.
    """
    _check_arguments(pool, fit, strategy, oracle)
    batch, seed = whole("batch", batch), whole("seed", seed)
    annotations = None if annotations is None else whole("annotations", annotations)
    if batch < 1:
        raise DfalError(f"batch = {batch} would query nothing: give 1 or more")
    while True:
        model = fit(pool, derive_seed(seed, pool.round, "fit"))  # A_k ← train(H, L_k)
        missing = len(pool.unlabelled) if annotations is None else annotations - pool.annotations
        k = min(batch, missing, len(pool.unlabelled))
        rng = generator(seed, pool.round, "select")
        query = pool.validate(strategy(model, pool, k, rng), k) if k > 0 else Query.nothing()  # Q_k
        yield Round(pool, model, query)
        if k <= 0:
            return
        pool = pool.learn(query, oracle(query.indices))  # L ← L ∪ {(x, y), (x + r, y)}


def _check_arguments(pool: Any, fit: Any, strategy: Any, oracle: Any) -> None:
    """Raise a `DfalError` for what `active_learning` cannot be called with."""
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
