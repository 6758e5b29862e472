"""The words everyone in dfal speaks: Perturbation, Query, Attack, Strategy, Oracle."""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

if TYPE_CHECKING:
    from dfal.pool import Pool

UNKNOWN = -1
"""The label of an image that nobody was asked about yet."""

DECLINED = -2
"""The label of an image that a person was asked about and did not want to label."""


class DfalError(ValueError):
    """Wrong use or bad input. Its text is one sentence that names what is wrong and what to do."""


class Stopped(Exception):  # noqa: N818
    """Ctrl-C. Its text says how to go on."""


def unknown(kind: str, name: str, known: Iterable[str]) -> DfalError:
    """The error for a name that is not known: it offers the nearest one that is."""
    names = list(known)
    near = difflib.get_close_matches(name.lower(), names, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? There are" if near else "there are"
    return DfalError(f"there is no {kind} {name!r}: {hint} {', '.join(names)}")


def setting(default: Any, help: str) -> Any:
    """A field of a configuration: its default and its help text, written once for Python and the command line."""
    return field(default=default, metadata={"help": help})


def added(default: Any) -> Any:
    """A field that a configuration did not have from the beginning: at its default it is not stored, so that ids stay."""
    return field(default=default, metadata={"added": True})


@dataclass(frozen=True)
class Perturbation:
    """What an attack found for each image of a batch.

    Attributes:
        images: the moved images, of the shape that came in.
        distance: ‖r‖_p, the length of the perturbation in the units of the pixels; inf where `fooled` is false.
        fooled: whether the network gives the moved image another class than the image itself.
    """

    images: Float[Tensor, "n *image"]
    distance: Float[Tensor, "n"]
    fooled: Bool[Tensor, "n"]


@dataclass(frozen=True)
class Query:
    """A question: which images to ask about, and what will be learnt beside the answers.

    Attributes:
        indices: the images to ask about, as indices of the data set, most wanted first.
        scores: what the strategy ranked them by, in its own unit (DFAL: distance; entropy: nats).
        twinned: for each twin, the asked image whose answer it inherits.
        twins: the adversarial twins.
        guessed: images that are trained on with the network's own label in the next round only.
        guesses: those labels. They are no annotations: nobody was asked.
        bound: where the choice minimises something by search, what is proved: no choice comes below this value.
    """

    indices: Int64[Tensor, "k"]
    scores: Float[Tensor, "k"]
    twinned: Int64[Tensor, "t"] | None = None
    twins: Float[Tensor, "t *image"] | None = None
    guessed: Int64[Tensor, "g"] | None = None
    guesses: Int64[Tensor, "g"] | None = None
    bound: float | None = None

    def only(self, order: Int64[Tensor, "m"]) -> "Query":
        """The question about some of its images, given by place and in that order, with their twins."""
        kept = replace(self, indices=self.indices[order], scores=self.scores[order])
        if self.twinned is None or self.twins is None:
            return kept
        place = {image: at for at, image in enumerate(self.twinned.tolist())}
        rows = [place[image] for image in kept.indices.tolist() if image in place]
        return replace(kept, twinned=self.twinned[rows], twins=self.twins[rows])

    @classmethod
    def nothing(cls) -> "Query":
        """The question that asks about no image."""
        return cls(torch.empty(0, dtype=torch.int64), torch.empty(0))


@runtime_checkable
class Attack(Protocol):
    """Finds for each image a nearby one that the network takes for another class."""

    def __call__(self, model: nn.Module, images: Float[Tensor, "n *image"]) -> Perturbation: ...


@runtime_checkable
class Strategy(Protocol):
    """Chooses at most k distinct images of `pool.unlabelled` to ask about: all that are left where there are fewer."""

    def __call__(self, model: nn.Module, pool: "Pool", k: int, rng: torch.Generator) -> Query: ...


@runtime_checkable
class Oracle(Protocol):
    """Answers: one class (0, 1, …) or DECLINED for each index of the data set, in the order asked."""

    def __call__(self, indices: Int64[Tensor, "k"]) -> Int64[Tensor, "k"]: ...
