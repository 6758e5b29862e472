"""Make every-job.db: a store with every kind of job that is stored, each run to its end.

    PYTHONPATH=src:tests python tests/stores/make_every_job.py FILE

The one that is kept was made with the sources of commit 1f115f8. It is not to be made again: what
later versions must read is what that one wrote.
"""

import sys
from pathlib import Path
from typing import Any

import dfal
import kept_strategies
from dfal.experiments import runner
from dfal.experiments.jobs import Job
from dfal.experiments.store import Store
from dfal.experiments.trial import Trial
from dfal.reproduce.selection_timing import SelectionTiming
from dfal.reproduce.transfer import Transfer

TRAINING = dfal.Training(epochs=1)
SHORT: dict[str, Any] = {"annotations": 6, "batch": 2, "first": 4, "training": TRAINING}
CHOOSING = Trial(strategy=dfal.DFAL(candidates=5), **SHORT)
JOBS: list[Job] = [
    CHOOSING,
    Trial(strategy=dfal.CEAL(threshold=0.19), seed=1, **SHORT),
    Trial(
        strategy=dfal.WithTwins(
            dfal.Margin(candidates=5), dfal.DeepFool(p=float("inf"), clip=(0, 1))
        ),
        **SHORT,
    ),
    Trial(strategy=kept_strategies.Mine(), **SHORT),
    Trial(strategy=kept_strategies.plain, **SHORT),
    Trial(strategy=dfal.WithTwins(kept_strategies.Mine(3, 20)), **SHORT),
    SelectionTiming(
        "mnist-5k",
        "lenet5",
        dfal.CoreSet(),
        labelled=6,
        unlabelled=10,
        picks=2,
        repeats=2,
        training=TRAINING,
    ),
    Transfer(CHOOSING, "lenet5", (4, 6), training=TRAINING),
]

if __name__ == "__main__":
    with Store(Path(sys.argv[1]), write=True) as store:
        for jobs in (JOBS[:-1], JOBS[-1:]):  # a transfer needs the rounds of its trial
            runner.check(jobs)
            for job, record in runner.run(jobs, store, 1):
                print(
                    job.id, type(job).__name__, job.label, record.round, dict(record.measurements)
                )
