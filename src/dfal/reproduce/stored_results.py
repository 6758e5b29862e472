"""What a store holds that the paper has, too: curves, full training sets, transfers, questions."""

import dataclasses
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from dfal.analysis.learning_curves import Curve, Study
from dfal.analysis.studies import is_full, looks_at, studies
from dfal.experiments.serialization import from_json, is_kind
from dfal.experiments.store import Record, Store
from dfal.experiments.trial import Trial
from dfal.protocols import Strategy
from dfal.reproduce import paper
from dfal.reproduce.presets import paper_settings
from dfal.reproduce.selection_timing import SelectionTiming
from dfal.reproduce.transfer import Transfer
from dfal.strategies import name_of


@dataclass(frozen=True)
class StoredResults:
    """The contents of a store, sorted.

    Attributes:
        studies: strategies compared, in the paper's order of settings, and of one setting the
        largest first.
        full: studies of the full training set, whose first labels are all of them.
        transfers, questions: with their rounds, as far as they went.
        reproduced: whether `dfal reproduce` made the store: the paper's numbers belong beside ours.
    """

    studies: tuple[Study, ...]
    full: tuple[Study, ...]
    transfers: tuple[tuple[Transfer, tuple[Record, ...]], ...]
    questions: tuple[tuple[SelectionTiming, tuple[Record, ...]], ...]
    reproduced: bool = False

    @property
    def empty(self) -> bool:
        """Whether there is no round at all."""
        rounds = [records for _, records in (*self.transfers, *self.questions)]
        return not (self.studies or self.full or any(rounds))

    @property
    def main(self) -> tuple[Study, ...]:
        """For each data set and network the study with the most strategies and, among those, the
        largest budget."""
        best: dict[tuple[str, str], Study] = {}
        for study in self.studies:
            best.setdefault((study.settings.dataset, study.settings.model), study)
        return tuple(best.values())

    def full_accuracy(self, study: Study) -> Float64[np.ndarray, "s"] | None:
        """Of the networks of this study trained on the full training set, one a seed."""
        for full in self.full:
            if (full.settings.dataset, full.settings.model) == (
                study.settings.dataset,
                study.settings.model,
            ):
                return np.asarray(full.curves[0].accuracy[:, 0])
        return None


def read_results(store: Store, against: str | None = None) -> StoredResults:
    """Sort a store.

    Raises:
        DfalError: where a study has no strategy `against`.
    """
    stored = store.trials()
    transfers = [from_json(Transfer, text) for text in stored.values() if is_kind(Transfer, text)]
    questions = [
        from_json(SelectionTiming, text)
        for text in stored.values()
        if is_kind(SelectionTiming, text)
    ]
    trials = [Trial.from_json(text) for text in stored.values() if is_kind(Trial, text)]
    reproduced = bool(transfers or questions or any(map(is_full, trials)))
    # The paper's tables look strategies up by their names, so that trials with another K stand in
    # tables of their own.
    found = (
        studies(store, against, named=name_in, apart=True)
        if reproduced
        else studies(store, against)
    )
    full = [study for study in found if is_full(study.settings)]
    compared = [study for study in found if not is_full(study.settings)]
    return StoredResults(
        tuple(sorted(compared, key=_place)),
        tuple(full),
        tuple((one, tuple(store.records(one.id))) for one in transfers),
        tuple((one, tuple(store.records(one.id))) for one in questions),
        reproduced,
    )


def order(trial: Trial) -> tuple[int, int, str, str]:
    """The paper's settings first, in its order."""
    dataset = paper.dataset_of(trial.dataset)
    return (
        len(paper.DATASETS) if dataset is None else paper.DATASETS.index(dataset),
        len(paper.MODELS) if trial.model not in paper.MODELS else paper.MODELS.index(trial.model),
        trial.dataset,
        trial.model,
    )


def _place(study: Study) -> tuple[tuple[int, int, str, str], int, int, bool]:
    """By setting, and of one setting the study with the most strategies first, and then the one
    with the paper's K."""
    usual_number = any(looks_at(one.trials[0].strategy) == "300" for one in study.curves)
    return order(study.settings), -len(study.curves), -study.settings.annotations, not usual_number


def name_in(settings: Trial, strategy: Strategy) -> str:
    """The name of a strategy among trials on these data: CEAL with the paper's threshold for them
    is called so."""
    for name in ("ceal", "ceal-released"):
        if _all(paper_settings(name, settings.dataset)) == _all(strategy):
            return name
    return name_of(strategy)


def _all(strategy: Strategy) -> Strategy:
    value: Strategy = strategy
    if hasattr(strategy, "candidates"):
        value = dataclasses.replace(strategy, candidates=None)  # type: ignore[type-var]
    return value


def curve(study: Study, name: str) -> Curve | None:
    """The curve of that strategy."""
    return next((one for one in study.curves if one.name == name), None)


def pairs(one: Curve, other: Curve, budget: int) -> Float64[np.ndarray, "s"] | None:
    """Differences at a budget over the seeds that both have; None where there are none."""
    left, right = one.at(budget), other.at(budget)
    if left is None or right is None:
        return None
    return _paired(one, left, other, right)


def _paired(
    one: Curve, left: Float64[np.ndarray, "s"], other: Curve, right: Float64[np.ndarray, "t"]
) -> Float64[np.ndarray, "n"] | None:
    there = {trial.seed: value for trial, value in zip(other.trials, right, strict=True)}
    found = [
        value - there[trial.seed]
        for trial, value in zip(one.trials, left, strict=True)
        if trial.seed in there
    ]
    return np.array(found) if found else None
