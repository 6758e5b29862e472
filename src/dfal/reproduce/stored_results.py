"""The stored counterparts of the paper's results: studies, full sets, transfers, timings."""

import dataclasses
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from dfal.analysis.learning_curves import Curve, Study, same_seeds
from dfal.analysis.rows import candidates_of, is_full
from dfal.analysis.studies import studies
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
        studies: compared strategies, in the paper's order of settings, and for one setting the
            largest first.
        full: studies of the full training set, whose first labels are all of them.
        transfers, timings: each with its stored rounds.
        reproduced: whether `dfal reproduce` made the store, so that the paper's numbers are shown
            next to ours.
    """

    studies: tuple[Study, ...]
    full: tuple[Study, ...]
    transfers: tuple[tuple[Transfer, tuple[Record, ...]], ...]
    timings: tuple[tuple[SelectionTiming, tuple[Record, ...]], ...]
    reproduced: bool = False

    @property
    def empty(self) -> bool:
        """Return whether there is no round at all."""
        rounds = [records for _, records in (*self.transfers, *self.timings)]
        return not (self.studies or self.full or any(rounds))

    @property
    def main(self) -> tuple[Study, ...]:
        """Return the largest study of each data set and network.

        It is the one with the most strategies, and of these the one with the largest budget.
        """
        best: dict[tuple[str, str], Study] = {}
        for study in self.studies:
            best.setdefault((study.settings.dataset, study.settings.model), study)
        return tuple(best.values())

    def full_accuracy(self, study: Study) -> Float64[np.ndarray, "s"] | None:
        """Return the accuracies of a study's network trained on all labels, one for each seed."""
        for full in self.full:
            if (full.settings.dataset, full.settings.model) == (
                study.settings.dataset,
                study.settings.model,
            ):
                return np.asarray(full.curves[0].accuracy[:, 0])
        return None


def read_results(store: Store, against: str | None = None) -> StoredResults:
    """Read and sort the results of a store.

    Args:
        store: an open store.
        against: the strategy that all others are compared with.
    """
    stored = store.trials()
    transfers = [from_json(Transfer, text) for text in stored.values() if is_kind(Transfer, text)]
    timings = [
        from_json(SelectionTiming, text)
        for text in stored.values()
        if is_kind(SelectionTiming, text)
    ]
    trials = [Trial.from_json(text) for text in stored.values() if is_kind(Trial, text)]
    reproduced = bool(transfers or timings or any(map(is_full, trials)))
    # The paper's tables look strategies up by their names, so that trials with another K stand in
    # tables of their own.
    all_studies = (
        studies(store, against, named=name_in, apart=True)
        if reproduced
        else studies(store, against)
    )
    full = [study for study in all_studies if is_full(study.settings)]
    compared = [study for study in all_studies if not is_full(study.settings)]
    return StoredResults(
        tuple(sorted(compared, key=_position)),
        tuple(full),
        tuple((transfer, tuple(store.records(transfer.id))) for transfer in transfers),
        tuple((timing, tuple(store.records(timing.id))) for timing in timings),
        reproduced,
    )


def order(trial: Trial) -> tuple[int, int, str, str]:
    """Return a sort key of settings: the paper's first, in its order."""
    dataset = paper.dataset_of(trial.dataset)
    return (
        len(paper.DATASETS) if dataset is None else paper.DATASETS.index(dataset),
        len(paper.MODELS) if trial.model not in paper.MODELS else paper.MODELS.index(trial.model),
        trial.dataset,
        trial.model,
    )


def _position(study: Study) -> tuple[tuple[int, int, str, str], int, int, bool]:
    """Return a sort key of studies: by setting, then the most strategies, then the paper's K."""
    usual_number = any(candidates_of(curve.trials[0].strategy) == "300" for curve in study.curves)
    return order(study.settings), -len(study.curves), -study.settings.annotations, not usual_number


def name_in(settings: Trial, strategy: Strategy) -> str:
    """Return a strategy's name among trials on a data set.

    CEAL with the paper's threshold for these data is called ceal, whatever its threshold.
    """
    for name in ("ceal", "ceal-released"):
        if _without_k(paper_settings(name, settings.dataset)) == _without_k(strategy):
            return name
    return name_of(strategy)


def _without_k(strategy: Strategy) -> Strategy:
    """Return a strategy that scores all images, where it has candidates."""
    value: Strategy = strategy
    if hasattr(strategy, "candidates"):
        value = dataclasses.replace(strategy, candidates=None)  # type: ignore[type-var]
    return value


def curve_named(study: Study, name: str) -> Curve | None:
    """Return the curve of a strategy by its name."""
    return next((curve for curve in study.curves if curve.name == name), None)


def pairs(one: Curve, other: Curve, budget: int) -> Float64[np.ndarray, "s"] | None:
    """Return the differences at a budget over the seeds that both have; None if there are none."""
    ours, theirs = (same.at(budget) for same in same_seeds([one, other]))
    return None if ours is None or theirs is None or not len(ours) else ours - theirs
