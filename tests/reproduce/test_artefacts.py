"""Everything that `dfal reproduce` can run, and runs that were killed."""

import itertools
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import dfal
from dfal import reproduce
from dfal.experiments.store import Store
from dfal.experiments.trial import Trial
from dfal.reproduce import figure3, table2, table4


@pytest.mark.parametrize("what", sorted(reproduce.ARTEFACTS))
def test_everything_can_run_and_be_told_apart(what: str) -> None:
    """Ids are distinct, sources come in an earlier stage, and what is needed by two is one
    trial."""
    stages = reproduce.ARTEFACTS[what].stages(
        reproduce.preset("paper").changed({"dataset": "mnist-5k"})
    )
    ids = [job.id for stage in stages for job in stage]
    assert len(set(ids)) == len(ids)
    for earlier, stage in itertools.pairwise(stages):
        assert {source.id for job in stage for source in job.sources} <= {job.id for job in earlier}
    for job in itertools.chain(*stages):
        assert job.label
        assert all(effort > 0 for effort in job.round_costs)


def test_table_2_and_figure_3_are_the_papers_budgets() -> None:
    preset = reproduce.preset("paper")
    (stage,) = table2.stages(preset.changed({"dataset": "mnist-5k"}))
    assert {job.annotations for job in stage if isinstance(job, Trial)} == {2000, 4000}
    assert figure3.budgets(preset) == (200, 300, 400, 500, 600, 700, 800, 900, 1000)
    assert table4.budgets(preset.trial) == (500, 1000)


COMMAND = [
    *(
        sys.executable,
        "-m",
        "dfal",
        "reproduce",
        "table1",
        "--preset",
        "quick",
        "--annotations",
        "60",
        "--epochs",
        "2",
    ),
    *(
        "--seeds",
        "2",
        "--full-epochs",
        "1",
        "--strategy",
        "dfal,random",
        "--processes",
        "2",
        "--store",
        "s.db",
    ),
]


def stored_rounds(path: Path) -> int:
    try:
        with Store(path) as store:
            return sum(len(store.records(trial, twins=False)) for trial in store.trials())
    except dfal.DfalError:  # not there yet
        return 0


@pytest.mark.slow
def test_killed_on_all_cores_and_given_again_it_ends_in_the_same_store(tmp_path: Path) -> None:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    (tmp_path / "whole").mkdir()
    subprocess.run(
        COMMAND, cwd=tmp_path / "whole", env=environment, capture_output=True, check=True
    )
    with Store(tmp_path / "whole" / "s.db") as store:
        whole = store.contents()
    rng = random.Random(0)
    for kill in range(4):
        folder = tmp_path / str(kill)
        folder.mkdir()
        process = subprocess.Popen(
            COMMAND, cwd=folder, env=environment, stdout=subprocess.DEVNULL, start_new_session=True
        )
        rounds = rng.randrange(
            1, 14
        )  # of 14: 2 strategies, 2 seeds, 3 rounds, and 2 full training sets
        while process.poll() is None and stored_rounds(folder / "s.db") < rounds:
            time.sleep(0.02)
        time.sleep(rng.uniform(0, 0.3))
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        subprocess.run(COMMAND, cwd=folder, env=environment, capture_output=True, check=True)
        with Store(folder / "s.db") as store:
            assert store.contents() == whole, kill
