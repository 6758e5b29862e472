"""How long a study of seven strategies and five seeds takes here, by a whole trial of each.

    python benchmarks/study_time.py study.db [--epochs 50] [--annotations 1000] [--processes 2]

The trials are those of Table 1: MNIST, LeNet5, 10 annotations a round. The same command resumes.
What is written are the seconds of each trial, and the hours that all of them take side by side in
as many processes. Of a trial that is not whole, at a quarter of its labels at least, the seconds
are estimated, as `gpu.py` does.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import dfal
from dfal.experiments.runner import run
from dfal.experiments.store import Store
from dfal.reproduce.presets import PAPER
from dfal.strategies import name_of
from gpu_trials import seconds_of_a_trial
from measure import taken_on, write

STRATEGIES = [name for name in PAPER.strategies if name != "dfal-no-twins"]
"""The seven of Table 1."""


def main() -> None:
    """Run the trials, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("store", type=Path)
    parser.add_argument("--dataset", default="mnist")
    parser.add_argument("--strategies", default=",".join(STRATEGIES))
    parser.add_argument("--annotations", type=int, default=PAPER.trial.annotations)
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--seeds", type=int, default=5, help="of the whole study")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent / "results" / "study_time.json"
    )
    options = parser.parse_args()
    trials = replace(PAPER, seeds=1).trials(
        options.strategies.split(","),
        dataset=options.dataset,
        annotations=options.annotations,
        training=dfal.Training(epochs=options.epochs),
    )
    with Store(options.store, write=True) as store:
        for trial, record in run(trials, store, options.processes):
            if not record.round % 10:
                print(name_of(trial.strategy), record.measurements, flush=True)
        rows = {}
        for trial in trials:
            records = store.records(trial.id)
            costs = {
                name: round(sum(record.costs.get(name, 0) for record in records), 1)
                for name in ("fit", "select")
            }
            seconds = seconds_of_a_trial(records, trial)
            if records[-1].measurements["annotations"] >= trial.annotations:
                seconds = sum(sum(record.costs.values()) for record in records)
            rows[name_of(trial.strategy)] = {
                "rounds": len(records),
                "accuracy": records[-1].measurements["accuracy"],
                "seconds": seconds and round(seconds, 1),
                **costs,
            }
    known = [row["seconds"] for row in rows.values() if row["seconds"]]
    hours = (
        sum(known) * options.seeds / options.processes / 3600 if len(known) == len(rows) else None
    )
    figures = {
        "epochs": options.epochs,
        "annotations": options.annotations,
        "processes": options.processes,
        "strategies": rows,
        "hours of the study": hours and round(hours, 2),
    }
    write(options.out, taken_on(["torch"]) | figures)
    print(figures)


if __name__ == "__main__":
    main()
