"""Rows of a table for each measurement and for each queried image of trials."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from dfal.errors import DfalError
from dfal.experiments.recipes import describe_learning
from dfal.experiments.store import Record
from dfal.experiments.trial import Trial
from dfal.protocols import Strategy

if TYPE_CHECKING:
    import pandas

Kind = Literal["measurements", "queries"]
Row = dict[str, Any]

FULL = "full training set"
"""The name of trials that start with all labels, whatever their strategy."""
MIN_FULL_SET = 1000
"""More first labels than this may be a full training set."""
COLUMNS: Mapping[Kind, tuple[str, ...]] = {
    "measurements": (
        *("dataset", "model", "strategy", "seed", "annotations", "labelled_data", "accuracy"),
        *("seconds_fit", "seconds_select", "trial", "study", "candidates"),
        *("backbone", "size", "unlabelled", "fit", "recipe"),
    ),
    "queries": (
        *("dataset", "model", "strategy", "seed", "round", "position"),
        *("image", "score", "predicted", "label", "trial", "study", "candidates"),
    ),
}
"""The columns of each kind of row, which docs/store.md describes."""


def is_full(trial: Trial) -> bool:
    """Return whether a trial is of a full training set: many first labels, and no others."""
    return trial.first == trial.annotations > MIN_FULL_SET


def candidates_of(strategy: Strategy) -> str:
    """Return K as a number or "all"; "" for a strategy that scores no images."""
    inner = getattr(strategy, "strategy", strategy)
    if inner is not strategy:
        return candidates_of(inner)
    settings = dict(
        getattr(strategy, "settings", ())
    )  # of a custom strategy, read without its code
    candidates = getattr(strategy, "candidates", settings.get("candidates", 0))
    return "all" if candidates is None else str(candidates or "")


def trial_rows(
    name: str, trial: Trial, records: Sequence[Record], kind: Kind, study: str = ""
) -> Iterator[Row]:
    """Yield the rows of a trial: column → value.

    Args:
        name: of the strategy.
        trial: whose rows they are.
        records: its rounds.
        kind: a row for each measurement, or for each queried image.
        study: the title of the study, for the column of that name.
    """
    common = {
        "dataset": trial.dataset,
        "model": trial.model,
        "strategy": FULL if is_full(trial) else name,
        "seed": trial.seed,
        "trial": trial.id,
        "study": study,
        "candidates": candidates_of(trial.strategy),
    }
    for record in records:
        for row in _BY_KIND[kind](trial, record):
            values = common | row
            yield {column: values[column] for column in COLUMNS[kind]}


def _measurement(trial: Trial, record: Record) -> Iterator[Row]:
    measured, costs = record.measurements, record.costs
    yield {
        "annotations": int(measured["annotations"]),
        "labelled_data": int(measured["labelled_data"]),
        "accuracy": measured["accuracy"],
        "seconds_fit": costs.get("fit", 0.0),
        "seconds_select": costs.get("select", 0.0),
        "backbone": trial.backbone,
        "size": trial.size,
        "unlabelled": trial.training.unlabelled,
        "fit": trial.fit,
        "recipe": describe_learning(trial),
    }


def _queries(_: Trial, record: Record) -> Iterator[Row]:
    query = record.query
    columns = (query.indices, query.scores, record.seen, record.answers)
    for position, (image, score, predicted, label) in enumerate(
        zip(*(column.tolist() for column in columns), strict=True)
    ):
        yield {
            "round": record.round,
            "position": position,
            "image": image,
            "score": score,
            "predicted": predicted,
            "label": label,
        }


_BY_KIND: Mapping[Kind, Callable[[Trial, Record], Iterator[Row]]] = {
    "measurements": _measurement,
    "queries": _queries,
}


def data_frame(rows: Iterator[Row], kind: Kind) -> "pandas.DataFrame":
    """Return the rows of one study as a data frame of pandas, without its title.

    Raises:
        DfalError: where pandas is not installed.
    """
    try:
        import pandas  # an extra
    except ImportError:
        raise DfalError(
            "a data frame needs pandas: pip install 'dfal[pandas]', or use dfal report --csv"
        ) from None
    return pandas.DataFrame(list(rows), columns=[name for name in COLUMNS[kind] if name != "study"])
