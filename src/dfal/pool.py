"""The pool of active learning: images, known labels and adversarial twins, as one frozen value.

A twin is an adversarial copy of an image: moved just across the decision boundary, it keeps the
label of its image. `Pool.learn` returns the pool of the next round.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from numpy.typing import NDArray
from torch import Tensor

from dfal.arguments import check_generator, kind_of, whole
from dfal.data.image_array import Images
from dfal.errors import DfalError, first_line
from dfal.query import DECLINED, UNKNOWN, Query


@dataclass(frozen=True)
class LabelledData:
    """What a network is trained on: annotated images, their twins, and pseudo-labelled images.

    Attributes:
        images: in that order.
        labels: the class of each row.
        source: the index in the pool that each row comes from; a twin has that of its image.
    """

    images: Float[Tensor, "n *image"]
    labels: Int64[Tensor, "n"]
    source: Int64[Tensor, "n"]

    def rows(self, which: Bool[Tensor, "n"]) -> "LabelledData":
        """Return some of the rows, on the device where they are.

        Args:
            which: whether a row is kept, on the CPU.
        """
        on = which.to(self.images.device)
        return LabelledData(self.images[on], self.labels[on], self.source[which])


@dataclass(frozen=True)
class Pool:
    """Hold the images, the labelled set L and the unlabelled set U of one round.

    Attributes:
        images: all images, in L or not.
        labels: the class of each image in L, `UNKNOWN` (−1) on U and `DECLINED` (−2) where a person
            declined to answer. Labels that a strategy must not see are not here.
        twinned: for each twin, the index of the image whose label it shares.
        twins: the adversarial twins.
        guessed: indices of images with a pseudo-label, which holds in this round only.
        guesses: their pseudo-labels.
        round: number of queries that were answered.
    """

    images: Images
    labels: Int64[Tensor, "n"]
    twinned: Int64[Tensor, "t"]
    twins: Float[Tensor, "t *image"]
    guessed: Int64[Tensor, "g"]
    guesses: Int64[Tensor, "g"]
    round: int = 0

    @classmethod
    def new(cls, images: Images | Tensor | NDArray[Any], known: Mapping[int, int]) -> "Pool":
        """Make the pool of round 0.

        Args:
            images: N images of one shape, channels first; uint8, or floating point as the network
                expects them.
            known: index → class, for the images whose label is known; all others are U.

        Raises:
            DfalError: for bad images, an index outside the pool, or a class that is no whole number
                ≥ 0.
        """
        images = Images(images)
        if not isinstance(known, Mapping):
            cure = (
                "give {} where there is none"
                if known is None
                else "for a label of each image give dict(enumerate(labels))"
            )
            raise DfalError(
                f"known must be a mapping from index to class, but it is {kind_of(known)}: {cure}"
            )
        labels = torch.full((len(images),), UNKNOWN, dtype=torch.int64)
        for index, label in known.items():
            row = whole("an index of known", index)
            if not 0 <= row < len(images):
                raise DfalError(
                    f"known[{index}] is outside the pool: its {len(images)} images are 0 to"
                    f" {len(images) - 1}"
                )
            labels[row] = _class(f"known[{index}]", label)
        none = torch.empty(0, dtype=torch.int64)
        return cls(images, labels, none, torch.empty(0, *images.shape), none, none)

    @property
    def unlabelled(self) -> Int64[Tensor, "u"]:
        """Return U: the ascending indices of the images that may be queried."""
        return (self.labels == UNKNOWN).nonzero().squeeze(1)

    @property
    def labelled(self) -> Int64[Tensor, "l"]:
        """Return L: the ascending indices of the images with an annotation."""
        return (self.labels >= 0).nonzero().squeeze(1)

    @property
    def annotations(self) -> int:
        """Return the number of annotations: not of twins, pseudo-labels or declined images."""
        return int((self.labels >= 0).sum())

    @property
    def labelled_data_size(self) -> int:
        """Return the number of images to train on: annotations, twins and pseudo-labels."""
        return self.annotations + len(self.twins) + len(self.guessed)

    def labelled_data(self, device: torch.device | str = "cpu") -> LabelledData:
        """Copy what is trained on in this round into the memory of a device."""
        pool_images = self.images.take(torch.cat([self.labelled, self.guessed]), device)
        annotated, guessed = pool_images.tensor_split([self.annotations])
        images = torch.cat([annotated, self.twins.to(device), guessed])
        labels = torch.cat([self.labels[self.labelled], self.labels[self.twinned], self.guesses])
        source = torch.cat([self.labelled, self.twinned, self.guessed])
        return LabelledData(images, labels.to(device), source)

    def learn(self, query: Query, answers: Sequence[int] | Tensor | NDArray[Any]) -> "Pool":
        """Return the pool of the next round: L ← L ∪ {(x, y), (x + r, y)}.

        Args:
            query: a query of this pool.
            answers: `answers[i]` is the class of `query.indices[i]`, or `DECLINED`, which also
                drops its twins.

        Raises:
            DfalError: where answers and query do not fit each other or this pool.
        """
        if not isinstance(query, Query):
            raise DfalError(
                f"the query must be a dfal.Query, but it is {kind_of(query)}: give what the"
                " strategy returned"
            )
        queried, classes = query.indices, _answers(answers)
        if classes.shape != queried.shape:
            raise DfalError(
                f"{len(queried)} images were queried but {classes.numel()} answers given: give one"
                " for each index"
            )
        bad = (classes != classes.long()) | ((classes < 0) & (classes != DECLINED))
        if bad.any():
            place = int(bad.nonzero()[0])
            raise DfalError(
                f"the answer {classes[place].item()} for image {int(queried[place])} is not a"
                f" class: give 0, 1, … or DECLINED ({DECLINED})"
            )
        self._check(query)

        labels = self.labels.clone()
        labels[queried] = classes.long()
        twinned, twins = self.twinned, self.twins
        if query.twins is not None and query.twinned is not None:
            answered = labels[query.twinned] >= 0
            twinned = torch.cat([twinned, query.twinned[answered]])
            # A network may compute in float64.
            twins = torch.cat([twins, query.twins[answered].cpu().to(twins.dtype)])
        return replace(
            self,
            labels=labels,
            twinned=twinned,
            twins=twins,
            guessed=_or_empty(query.guessed),
            guesses=_or_empty(query.guesses),
            round=self.round + 1,
        )

    def validate(self, query: Any, k: int) -> Query:
        """Return what a strategy returned, if it is a query of this pool.

        Args:
            query: the strategy's result.
            k: the number of images that it was to select, at least 1.

        Raises:
            DfalError: for anything but a `Query`, for one of no image or of more than k, and for
                one that does not fit this pool.
        """
        if not isinstance(query, Query):
            raise DfalError(
                f"the strategy returned {type(query).__name__}, but a Query is needed: give"
                " dfal.Query(indices, scores), a score for each index"
            )
        indices: Any = query.indices
        scores: Any = query.scores
        if (
            not all(torch.is_tensor(value) and value.ndim == 1 for value in (indices, scores))
            or indices.dtype != torch.int64
        ):
            raise DfalError(
                "the strategy's indices must be a tensor of shape (k,) of int64, and its scores one"
                " of shape (k,)"
            )
        if len(indices) != len(scores):
            raise DfalError(
                f"the strategy gives {len(indices)} indices but {len(scores)} scores: give one for"
                " each"
            )
        if not 1 <= len(indices) <= k:
            raise DfalError(
                f"the strategy queries {len(indices)} images, but it must select 1 or more and"
                f" at most k = {k}"
            )
        self._check(query)
        return query

    def _check(self, query: Query) -> None:
        """Raise a `DfalError` unless this is a query of this pool."""
        values, counts = query.indices.unique(return_counts=True)
        if len(values) != len(query.indices):
            raise DfalError(
                f"the query has image {int(values[counts > 1][0])} twice: its indices must be"
                " distinct"
            )
        queried = query.indices
        guessed, guesses = _or_empty(query.guessed), _or_empty(query.guesses)
        if len(guessed) != len(guesses):
            raise DfalError(
                f"the query has {len(guessed)} pseudo-labelled images (guessed) but"
                f" {len(guesses)} pseudo-labels (guesses): give one for each"
            )
        if (guesses < 0).any():
            place = int((guesses < 0).nonzero()[0])
            raise DfalError(
                f"the pseudo-label {int(guesses[place])} of image {int(guessed[place])} is no"
                " class: classes are 0, 1, 2, …"
            )
        for what, indices in (("queried", queried), ("pseudo-labelled", guessed)):
            outside = indices[(indices < 0) | (indices >= len(self.images))]
            if len(outside):
                raise DfalError(
                    f"image {int(outside[0])} was {what}, but it is outside the pool of images 0 to"
                    f" {len(self.images) - 1}"
                )
            known = self.labels[indices] != UNKNOWN
            if known.any():
                raise DfalError(
                    f"image {int(indices[known][0])} was {what}, but it is not unlabelled: use this"
                    " round's query"
                )
        both = guessed[torch.isin(guessed, queried)]
        if len(both):
            raise DfalError(
                f"image {int(both[0])} is both queried and pseudo-labelled: a query may do one of"
                " them"
            )
        if (query.twins is None) != (query.twinned is None):
            raise DfalError(
                "a query with twins needs twinned, the queried images they belong to, and the other"
                " way round"
            )
        if query.twins is not None and query.twinned is not None:
            foreign = query.twinned[~torch.isin(query.twinned, queried)]
            if len(foreign):
                raise DfalError(
                    f"a twin belongs to image {int(foreign[0])}, which was not queried: twinned"
                    " must be among the indices"
                )
            needed, shape = (len(query.twinned), *self.images.shape), tuple(query.twins.shape)
            if shape != needed:
                raise DfalError(
                    f"the twins are of shape {shape}, but {needed} is needed: one like the images"
                    " for each of twinned"
                )


def check_call(pool: Any, k: Any, rng: Any) -> None:
    """Check the arguments of a strategy.

    Raises:
        DfalError: for a pool, k or rng that a strategy cannot be called with.
    """
    if not isinstance(pool, Pool):
        raise DfalError(
            f"the pool must be a dfal.Pool, but it is {kind_of(pool)}: give dfal.Pool.new(images,"
            " known)"
        )
    if whole("k", k) < 0:
        raise DfalError(f"k = {k} must be 0 or more images")
    check_generator(rng)


def _class(name: str, label: Any) -> int:
    """Return a class as an int; raise a `DfalError` for anything else."""
    try:
        number = whole(name, label)
    except DfalError:
        number = -1
    if number < 0:
        names = (
            "; number the names of classes, say by names.index(name)"
            if isinstance(label, str)
            else ""
        )
        raise DfalError(f"{name} = {label} is not a class: classes are 0, 1, 2, …{names}")
    return number


def _answers(answers: Any) -> Tensor:
    """Return answers as a tensor of real numbers; raise a `DfalError` for anything else."""
    try:
        classes = torch.as_tensor(answers)
    except (TypeError, ValueError, RuntimeError) as error:
        raise DfalError(
            f"the answers are not classes ({first_line(error)}): give 0, 1, … for each"
            f" image, or DECLINED ({DECLINED})"
        ) from None
    if classes.is_complex():
        raise DfalError(
            "the answers are complex numbers and no classes: give 0, 1, … for each image"
        )
    return classes


def _or_empty(indices: Tensor | None) -> Tensor:
    return torch.empty(0, dtype=torch.int64) if indices is None else indices
