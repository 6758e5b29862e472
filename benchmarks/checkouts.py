"""Compare the speed of this checkout with that of another one, in one run:

    git worktree add ../before COMMIT
    python benchmarks/checkouts.py ../before

DeepFool on LeNet5, training of LeNet5, and a whole small trial of DFAL, by public names of dfal
alone. Processes of the two checkouts take turns, so that both meet the same machine; each process
computes with one thread and times each task several times. What is compared are medians over
processes of the medians in each; results must be equal to the bit.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

from measure import taken_on, write

HERE = Path(__file__).resolve().parents[1]

TASKS = """
import hashlib, json, statistics, time
import torch, dfal

torch.set_num_threads(1)
torch.manual_seed(0)
images = torch.rand(512, 1, 28, 28)
pool = dfal.Pool.new(images, {i: i % 10 for i in range(400)})


def deepfool():
    torch.manual_seed(1)
    return dfal.DeepFool()(dfal.lenet5(), images[:256]).distance


def training():
    settings = dfal.Training(epochs=8)
    return next(dfal.fit(dfal.lenet5, pool.labelled_data("cpu"), settings, 0).parameters()).detach()


def trial():
    start = dfal.Pool.new(images, {i: i % 10 for i in range(10)})
    settings = dfal.Training(epochs=5)
    rounds = dfal.active_learning(
        start,
        lambda pool, seed: dfal.fit(dfal.lenet5, pool.labelled_data("cpu"), settings, seed),
        dfal.DFAL(candidates=100),
        lambda indices: indices % 10,
        annotations=50,
    )
    return torch.cat([each.query.scores for each in rounds])


found = {}
for task in (deepfool, training, trial):
    result = task()
    seconds = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        task()
        seconds.append(time.perf_counter() - began)
    digest = hashlib.sha256(result.numpy().tobytes()).hexdigest()[:16]
    found[task.__name__] = {"seconds": statistics.median(seconds), "result": digest}
print(json.dumps(found))
"""


def one_process(checkout: Path, repeats: int) -> dict[str, dict[str, float | str]]:
    """Run every task in a new process with the sources of a checkout."""
    environment = {**os.environ, "PYTHONPATH": str(checkout / "src"), "OMP_NUM_THREADS": "1"}
    code = TASKS.replace("REPEATS", str(repeats))
    ran = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    measured: dict[str, dict[str, float | str]] = json.loads(ran.stdout)
    return measured


def main() -> None:
    """Take turns and write the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("other", type=Path, help="the other checkout")
    parser.add_argument("--processes", type=int, default=7, help="of each checkout")
    parser.add_argument("--repeats", type=int, default=3, help="of each task in a process")
    asked = parser.parse_args()
    runs: dict[str, list[dict[str, dict[str, float | str]]]] = {"here": [], "other": []}
    for _ in range(asked.processes):
        runs["here"].append(one_process(HERE, asked.repeats))
        runs["other"].append(one_process(asked.other.resolve(), asked.repeats))
    figures = {}
    for task in runs["here"][0]:
        seconds = {
            side: [float(run[task]["seconds"]) for run in measured]
            for side, measured in runs.items()
        }
        pairs = zip(seconds["here"], seconds["other"], strict=True)
        ratios = sorted(here / other for here, other in pairs)
        results = {str(run[task]["result"]) for measured in runs.values() for run in measured}
        figures[task] = {
            "seconds_here": statistics.median(seconds["here"]),
            "seconds_other": statistics.median(seconds["other"]),
            "ratio": statistics.median(ratios),
            "ratios_of_pairs": [round(ratio, 3) for ratio in ratios],
            "equal_to_the_bit": len(results) == 1,
        }
        print(task, json.dumps(figures[task]), flush=True)
    commit = subprocess.run(
        ["git", "-C", str(asked.other), "rev-parse", "--short", "HEAD"],
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    out = Path(__file__).parent / "results" / "checkouts.json"
    write(out, taken_on(["torch", "numpy"]) | {"other": commit, "tasks": figures})


if __name__ == "__main__":
    main()
