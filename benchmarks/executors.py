"""Studies on Ray and by submitit, beside local processes:

    python benchmarks/executors.py --nodes 4 --trials 40

1. Four trials (DFAL and random sampling with LeNet5, two seeds; one more with warm starts) run in
   this process, on two workers of Ray, and by submitit's local executor; in the second half of
   each study one worker is killed. All stores must be equal in every row and in the weights.
2. Tiny trials run in local processes and on a cluster of Ray that is simulated on this machine, in
   turns: as many workers as `--nodes` in both.
"""

import argparse
import logging
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import dfal
from dfal.experiments import runner
from dfal.experiments.executors import Executor, named
from dfal.experiments.executors.on_slurm import Slurm
from measure import taken_on, write

RESULTS = Path(__file__).parent / "results"

SMALL = dfal.Trial(annotations=40, batch=10, training=dfal.Training(epochs=2))
FOUR = [
    *(replace(SMALL, seed=seed, strategy=dfal.DFAL(candidates=20)) for seed in range(2)),
    replace(SMALL, strategy=dfal.Random()),
    replace(SMALL, strategy=dfal.Margin(), training=dfal.Training(steps=10, warm_steps=5)),
]


def tiny(count: int) -> list[dfal.Trial]:
    trial = dfal.Trial(
        annotations=60,
        batch=10,
        training=dfal.Training(epochs=2),
        strategy=dfal.Random(),
        model="linear",
    )
    return [replace(trial, seed=seed) for seed in range(count)]


def study(
    trials: list[dfal.Trial],
    executor: Executor | str,
    processes: int | None,
    after: Callable[[int], None] = lambda rounds: None,
) -> tuple[float, dict[str, Any]]:
    """Return the seconds of a study, and all that it stored."""
    with (
        tempfile.TemporaryDirectory() as folder,
        dfal.Store(Path(folder) / "study.db", write=True) as store,
    ):
        start = time.perf_counter()
        for rounds, _ in enumerate(runner.run(trials, store, processes, executor), 1):
            after(rounds)
        return time.perf_counter() - start, store.contents()


def workers(mark: str) -> list[int]:
    """Return the processes of this machine whose command line has this mark."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal() and int(folder.name) != os.getpid():
            try:
                line = (folder / "cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue
            if mark in line:
                found.append(int(folder.name))
    return found


class Killer:
    """Kills a worker in the middle of a study, once."""

    def __init__(self, mark: str, middle: int):
        self._mark, self._middle, self.killed = mark, middle, 0

    def __call__(self, rounds: int) -> None:
        if rounds >= self._middle and not self.killed:
            for process in workers(self._mark)[:1]:
                os.kill(process, signal.SIGKILL)
                self.killed = process


def main() -> int:
    parser = argparse.ArgumentParser(description="Studies on Ray and by submitit.")
    parser.add_argument("--nodes", type=int, default=4)
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--turns", type=int, default=3)
    options = parser.parse_args()
    import ray
    from ray.cluster_utils import Cluster

    figures: dict[str, Any] = taken_on(("dfal", "torch", "ray", "submitit"))
    seconds, expected = study(FOUR, "local", 1)
    middle = sum(len(trial.round_costs) for trial in FOUR) // 2
    figures["four trials"] = {"local": {"seconds": round(seconds, 1)}}
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    for name, executor, mark in (
        ("ray", named("ray"), "ray::_Worker"),
        ("submitit", Slurm(cluster="local"), "submitit.core._submit"),
    ):
        for kind, after in (("whole", lambda rounds: None), ("killed", Killer(mark, middle))):
            seconds, found = study(FOUR, executor, 2, after)
            if isinstance(after, Killer) and not after.killed:
                sys.exit(f"no worker of {name} was killed")
            figures["four trials"][f"{name}, {kind}"] = {
                "seconds": round(seconds, 1),
                "equal": found == expected,
            }
            print(name, kind, figures["four trials"][f"{name}, {kind}"], flush=True)
            write(RESULTS / "executors.json", figures)
    ray.shutdown()

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    for _ in range(options.nodes):
        cluster.add_node(num_cpus=1)
    ray.init(address=cluster.address, log_to_driver=False, logging_level=logging.ERROR)
    turns = []
    for turn in range(options.turns):
        local, expected = study(tiny(options.trials), "local", options.nodes)
        remote, found = study(tiny(options.trials), "ray", options.nodes)
        turns.append(
            {"local": round(local, 1), "ray": round(remote, 1), "equal": found == expected}
        )
        print(turn, turns[-1], flush=True)
        figures["tiny trials"] = {"trials": options.trials, "nodes": options.nodes, "turns": turns}
        write(RESULTS / "executors.json", figures)
    ray.shutdown()
    cluster.shutdown()  # type: ignore[no-untyped-call]
    return 0


if __name__ == "__main__":
    sys.exit(main())
