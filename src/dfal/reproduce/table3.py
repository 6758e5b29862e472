"""Table 3: seconds to choose 10 of 800 images with 100 labelled, MNIST.

The claim: DFAL chooses six to seven times as fast as CORE-SET.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64

from dfal.analysis.tables import RANGE, Answer, Cell, Table, Verdict, table
from dfal.experiments.runner import Job
from dfal.reproduce import paper
from dfal.reproduce.presets import Preset
from dfal.reproduce.selection_timing import SelectionTiming
from dfal.reproduce.stored_results import StoredResults
from dfal.strategies import name_of, named, with_candidates

ROWS = ("dfal", "core-set-robust", "core-set")


def stages(preset: Preset) -> list[Sequence[Job]]:
    """One question a strategy, one after the other: what runs beside them would be timed, too."""
    trial = preset.trial
    return [
        [
            SelectionTiming(
                trial.dataset, trial.model, with_candidates(named(row), None), device=trial.device
            )
            for row in ROWS
        ]
    ]


Seconds = dict[str, Float64[np.ndarray, "r"]]


def _seconds(shelf: StoredResults) -> dict[str, Seconds]:
    """Setting → strategy → seconds of each repetition."""
    found: dict[str, Seconds] = {}
    for question, records in shelf.questions:
        setting = f"{question.dataset}, {question.model}" + (
            "" if question.device == "cpu" else f", {question.device}"
        )
        if records:
            seconds = np.array([record.costs["select"] for record in records])
            found.setdefault(setting, {})[name_of(question.strategy)] = seconds
    return found


def tables(shelf: StoredResults) -> list[Table]:
    """Seconds, and how many times DFAL's they are, ours and the paper's."""
    published = paper.table3()
    made = []
    for setting, seconds in _seconds(shelf).items():
        rows = []
        for name, values in seconds.items():
            middle, theirs = float(np.median(values)), published.get(name)
            took = Cell(
                f"{middle:.3f}",
                f"{values.min():.3f} to {values.max():.3f}",
                f"{theirs:.2f}" if theirs else "",
                value=middle,
                low=float(values.min()),
                high=float(values.max()),
                interval=RANGE,
            )
            times = Cell()
            if "dfal" in seconds:
                ratio = middle / float(np.median(seconds["dfal"]))
                times = Cell(
                    f"{ratio:.2f}",
                    "",
                    f"{theirs / published['dfal']:.2f}" if theirs else "",
                    value=ratio,
                )
            rows.append((name, [took, times]))
        made.append(
            table(
                "table3",
                f"Table 3: {setting}",
                "Seconds to choose 10 of 800 images with 100 labelled, one thread: median, smallest"
                " and largest, and the paper's on its machine (Xeon E5-2670 v3, TITAN X)."
                " core-set-robust is the paper's CORE-SET with regularisation, here as a set cover"
                " that is solved to its proved optimum.",
                ["seconds", "times DFAL's"],
                rows,
            )
        )
    return made


def verdicts(shelf: StoredResults) -> list[Verdict]:
    """That DFAL is faster than either kind of CORE-SET."""
    return [
        faster(setting, name, seconds["dfal"], seconds[name])
        for setting, seconds in _seconds(shelf).items()
        for name in ("core-set-robust", "core-set")
        if "dfal" in seconds and name in seconds
    ]


def faster(
    setting: str, name: str, dfal: Float64[np.ndarray, "r"], rival: Float64[np.ndarray, "q"]
) -> Verdict:
    """The slowest of DFAL's questions took less than the fastest of the other's, or the other way
    round."""
    answer: Answer = "undecided"
    if len(dfal) > 1 and len(rival) > 1:
        answer = (
            "holds"
            if dfal.max() < rival.min()
            else "does not hold"
            if rival.max() < dfal.min()
            else "undecided"
        )
    published = paper.table3()
    return Verdict(
        f"DFAL asks faster than {name}",
        answer,
        f"{name} takes {np.median(rival) / np.median(dfal):.2f} times DFAL's {np.median(dfal):.3f}"
        f" s; the paper: {published[name] / published['dfal']:.2f} times {published['dfal']:.2f} s",
        setting,
    )
