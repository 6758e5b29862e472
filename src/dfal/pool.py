"""Pool: images, the labels known so far, the twins made so far. One frozen value; learning gives
the next one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int64
from numpy.typing import NDArray
from torch import Tensor

from dfal.arguments import check_generator, kind_of, whole
from dfal.data.image_array import Images
from dfal.errors import DfalError, first_line
from dfal.query import DECLINED, UNKNOWN, Query


@dataclass(frozen=True)
class LabelledData:
    """Everything that is trained on: annotated images, their twins, and this round's guesses, in
    that order.

    `source[i]` is the index in the data set that row i comes from: a twin has the source of its
    image.
    """

    images: Float[Tensor, "n *image"]
    labels: Int64[Tensor, "n"]
    source: Int64[Tensor, "n"]


@dataclass(frozen=True)
class Pool:
    """The images, L and U of one round.

    Attributes:
        images: all images, in L or not, by index of the data set.
        labels: the class of each image in L, `UNKNOWN` (−1) on U and `DECLINED` (−2) where a person
            declined. What a strategy must not see is not here.
        twinned, twins: the adversarial twins and the images whose label they share.
        guessed, guesses: pseudo-labels that hold in this round only.
        round: how many questions were answered.
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
        """A pool before its first question.

        Args:
            images: N images of one shape, channels first; uint8, or floating point as the network
            wants them.
            known: index → class, for the images whose label is known; everything else is U.

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
            place = whole("an index of known", index)
            if not 0 <= place < len(images):
                raise DfalError(
                    f"known[{index}] is outside the pool: its {len(images)} images are 0 to"
                    f" {len(images) - 1}"
                )
            labels[place] = _class(f"known[{index}]", label)
        none = torch.empty(0, dtype=torch.int64)
        return cls(images, labels, none, torch.empty(0, *images.shape), none, none)

    @property
    def unlabelled(self) -> Int64[Tensor, "u"]:
        """U: the indices that may be asked about, ascending."""
        return (self.labels == UNKNOWN).nonzero().squeeze(1)

    @property
    def labelled(self) -> Int64[Tensor, "l"]:
        """L: the indices with an annotation, ascending."""
        return (self.labels >= 0).nonzero().squeeze(1)

    @property
    def annotations(self) -> int:
        """How many answers somebody gave. Twins, guesses and declined images are none."""
        return int((self.labels >= 0).sum())

    @property
    def labelled_data_size(self) -> int:
        """How many images are trained on in this round: annotations, twins and guesses."""
        return self.annotations + len(self.twins) + len(self.guessed)

    def labelled_data(self, device: torch.device | str = "cpu") -> LabelledData:
        """Everything that is trained on in this round, in memory."""
        real = torch.cat([self.labelled, self.guessed])
        taken = self.images.take(real, device)
        a = self.annotations
        images = torch.cat([taken[:a], self.twins.to(device), taken[a:]])
        labels = torch.cat([self.labels[self.labelled], self.labels[self.twinned], self.guesses])
        source = torch.cat([self.labelled, self.twinned, self.guessed])
        return LabelledData(images, labels.to(device), source)

    def learn(self, query: Query, answers: Sequence[int] | Tensor | NDArray[Any]) -> "Pool":
        """L ← L ∪ {(x, y), (x + r, y)}: the pool of the next round.

        Args:
            query: what was asked about, of this pool.
            answers: `answers[i]` is the class of `query.indices[i]`, or `DECLINED`, which also
            drops its twins.

        Raises:
            DfalError: where answers and question do not fit each other or this pool.
        """
        if not isinstance(query, Query):
            raise DfalError(
                f"the question must be a dfal.Query, but it is {kind_of(query)}: give what the"
                " strategy returned"
            )
        asked = query.indices
        given = _answers(answers)
        if given.shape != asked.shape:
            raise DfalError(
                f"{len(asked)} images were asked about but {given.numel()} answers came: give one"
                " for each index"
            )
        bad = (given != given.long()) | ((given < 0) & (given != DECLINED))
        if bad.any():
            at = int(bad.nonzero()[0])
            raise DfalError(
                f"the answer {given[at].item()} for image {int(asked[at])} is no class: give 0, 1,"
                f" … or DECLINED ({DECLINED})"
            )
        self._check(query)

        labels = self.labels.clone()
        labels[asked] = given.long()
        twinned, twins = self.twinned, self.twins
        if query.twins is not None and query.twinned is not None:
            answered = labels[query.twinned] >= 0
            twinned = torch.cat([twinned, query.twinned[answered]])
            twins = torch.cat(
                [twins, query.twins[answered].cpu().to(twins.dtype)]
            )  # a network may compute in float64
        return replace(
            self,
            labels=labels,
            twinned=twinned,
            twins=twins,
            guessed=_or_none(query.guessed),
            guesses=_or_none(query.guesses),
            round=self.round + 1,
        )

    def asked(self, query: Any, k: int) -> Query:
        """What a strategy returned when it was to choose k ≥ 1 images, which is a question of this
        pool.

        Raises:
            DfalError: for anything but a `Query`, for one about no image or more than k, and as
            `learn` does.
        """
        if not isinstance(query, Query):
            raise DfalError(
                f"the strategy returned {type(query).__name__}, but a Query is needed: give"
                " dfal.Query(indices, scores), a score for each index"
            )
        indices: Any = query.indices
        scores: Any = query.scores
        if (
            not all(torch.is_tensor(one) and one.ndim == 1 for one in (indices, scores))
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
                f"the strategy asks about {len(indices)} images, but it must choose 1 or more and"
                f" at most k = {k}"
            )
        self._check(query)
        return query

    def _check(self, query: Query) -> None:
        """Raise unless this pool could have asked the question."""
        values, counts = query.indices.unique(return_counts=True)
        if len(values) != len(query.indices):
            raise DfalError(
                f"the question asks about image {int(values[counts > 1][0])} twice: its indices"
                " must be distinct"
            )
        asked, guessed, guesses = query.indices, _or_none(query.guessed), _or_none(query.guesses)
        if len(guessed) != len(guesses):
            raise DfalError(
                f"the question has {len(guessed)} guessed images but {len(guesses)} guesses: give"
                " one for each"
            )
        if (guesses < 0).any():
            at = int((guesses < 0).nonzero()[0])
            raise DfalError(
                f"the guess {int(guesses[at])} for image {int(guessed[at])} is no class: classes"
                " are 0, 1, 2, …"
            )
        for what, indices in (("asked about", asked), ("guessed", guessed)):
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
                    " round's question"
                )
        both = guessed[torch.isin(guessed, asked)]
        if len(both):
            raise DfalError(
                f"image {int(both[0])} is both asked about and guessed: a question may do one of"
                " them"
            )
        if (query.twins is None) != (query.twinned is None):
            raise DfalError(
                "a question with twins needs twinned, the asked images they belong to, and the"
                " other way round"
            )
        if query.twins is not None and query.twinned is not None:
            strange = query.twinned[~torch.isin(query.twinned, asked)]
            if len(strange):
                raise DfalError(
                    f"a twin belongs to image {int(strange[0])}, which was not asked about: twinned"
                    " must be among the indices"
                )
            needed, shape = (len(query.twinned), *self.images.shape), tuple(query.twins.shape)
            if shape != needed:
                raise DfalError(
                    f"the twins are of shape {shape}, but {needed} is needed: one like the images"
                    " for each of twinned"
                )


def check_call(pool: Any, k: Any, rng: Any) -> None:
    """Raise unless a strategy can be called with these."""
    if not isinstance(pool, Pool):
        raise DfalError(
            f"the pool must be a dfal.Pool, but it is {kind_of(pool)}: give dfal.Pool.new(images,"
            " known)"
        )
    if whole("k", k) < 0:
        raise DfalError(f"k = {k} must be 0 or more images")
    check_generator(rng)


def _class(name: str, label: Any) -> int:
    """Return a class as an int; raise for anything else."""
    try:
        found = whole(name, label)
    except DfalError:
        found = -1
    if found < 0:
        names = (
            "; number the names of classes, say by names.index(name)"
            if isinstance(label, str)
            else ""
        )
        raise DfalError(f"{name} = {label} is no class: classes are 0, 1, 2, …{names}")
    return found


def _answers(answers: Any) -> Tensor:
    """Return answers as a tensor of numbers; raise for anything else."""
    try:
        given = torch.as_tensor(answers)
    except (TypeError, ValueError, RuntimeError) as error:
        raise DfalError(
            f"the answers are no classes ({first_line(error)}): give 0, 1, … for each"
            f" image, or DECLINED ({DECLINED})"
        ) from None
    if given.is_complex():
        raise DfalError(
            "the answers are complex numbers and no classes: give 0, 1, … for each image"
        )
    return given


def _or_none(indices: Tensor | None) -> Tensor:
    return torch.empty(0, dtype=torch.int64) if indices is None else indices
