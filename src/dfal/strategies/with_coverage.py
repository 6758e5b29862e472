"""Coverage beside any strategy: some of its images come from parts of the pool without a label."""

from dataclasses import dataclass, replace

import torch
from torch import nn

from dfal.errors import DfalError
from dfal.nn.evaluation import default_modes
from dfal.pool import Pool, check_call
from dfal.protocols import Strategy
from dfal.query import DECLINED, Query
from dfal.strategies.clusters import TypiClust


@dataclass(frozen=True)
class WithCoverage:
    """Query some images by coverage, and the others by another strategy.

    A network gives the images of a class without a label to other classes, and is as certain of
    them as of any. So strategies that ask the network find a rare class late; coverage does not ask
    it. Of k images `share` · k are covered, rounded up or down at random so that it is right on
    average. They come last, with the scores of `coverage`.

    Attributes:
        strategy: chooses the other images.
        share: fraction of the images that are chosen by coverage, above 0 and at most 1.
        coverage: chooses these; it looks at pixels, and not at what the network makes of them.

    Source: ours.
    Cost: that of both strategies.
    """

    strategy: Strategy
    share: float = 0.2
    coverage: Strategy = TypiClust(candidates=10_000, space="components")

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise DfalError(f"share must be above 0 and at most 1 (got {self.share})")

    @default_modes()
    def __call__(self, model: nn.Module, pool: Pool, k: int, rng: torch.Generator) -> Query:
        check_call(pool, k, rng)
        count = int(self.share * min(k, len(pool.unlabelled)) + float(torch.rand(1, generator=rng)))
        covering = self.coverage(model, pool, count, rng) if count else Query.nothing()
        labels = pool.labels.clone()
        labels[covering.indices] = DECLINED  # no candidates of the strategy
        query = self.strategy(model, replace(pool, labels=labels), k - count, rng)
        return replace(
            query,
            indices=torch.cat([query.indices, covering.indices]),
            scores=torch.cat([query.scores, covering.scores]),
        )
