"""How good is the model that a person has after a few labels through the page?

    python benchmarks/photographs.py run --data cat-dog --seeds 10
    python benchmarks/photographs.py run --data cat-dog --arms random lite0 pixels none
    python benchmarks/photographs.py run --data mnist-5k --pace 1 --rest --labels 30 60 90 150
    git worktree add ../before 1f115f8
    python benchmarks/photographs.py run --data cat-dog --arms before --checkout ../before
    python benchmarks/photographs.py table

A simulated person labels a folder through the HTTP API of `dfal label`, which runs in a process of
its own. The images have anonymous names in one flat folder; only the simulated person knows their
classes. The test images lie in another folder, which `dfal label` never sees. At each number of
annotations (all answers: those of the hold-out cost as much as the others) the model that is saved
beside the store predicts the test images.

Data sets: `cat-dog` and `cifar-10-sample` (archives in $DFAL_DATA), a data set of dfal's own, or a
folder with a folder for each class, perhaps in `train` and `test`. Without a test part two of seven
images are for testing, another choice for each seed. Arms: `default`; `random`, the same with
random sampling; the name of a backbone; `before`, the default of the checkout that --checkout
names.

Rows are appended to the CSV as they come. The same command resumes: what is finished is skipped.
"""

import argparse
import csv
import queue
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from dfal.stats.agreement import wilson
from measure import difference, taken_on, write
from model_testing import Predictions, predict
from photograph_data import Photographs, prepare
from simulated_person import Labelling, Person, PresentModel, kill_all

HERE = Path(__file__).resolve().parents[1]
RESULTS = HERE / "results" / "photographs.csv"
ARMS: dict[str, list[str]] = {
    "default": [],
    "before": [],
    "random": ["--strategy", "random"],
}
"""Options of `dfal label` in each arm; another name is a backbone."""


@dataclass(frozen=True)
class Row:
    """The model after a number of annotations.

    Attributes:
        data, arm, seed: what was run; `arm` names other options too.
        labels: annotations, those of the hold-out included.
        trained_on: of them, those that the model was trained on.
        classes: how many were seen until then.
        accuracy, low, high: on the test images, with the 95 % Wilson interval; NaN without a model.
        test: number of test images.
        confidence: mean confidence on the test images.
        backbone: of the model.
        seconds: since the first question, with the waiting that was asked for.
        slowest: seconds from an answer to the new ranking, the longest so far.
        weights: digest of the model's weights.
        commit: of dfal.
    """

    data: str
    arm: str
    seed: int
    labels: int = 0
    trained_on: int = 0
    classes: int = 0
    accuracy: float = float("nan")
    low: float = float("nan")
    high: float = float("nan")
    test: int = 0
    confidence: float = float("nan")
    backbone: str = "no model yet"
    seconds: float = 0.0
    slowest: float = 0.0
    weights: str = ""
    commit: str = ""


COLUMNS = list(Row.__dataclass_fields__)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    run = commands.add_parser("run", help="label, and append to the CSV")
    run.add_argument("--data", default="cat-dog")
    run.add_argument("--arms", nargs="+", default=["default"])
    run.add_argument("--seeds", type=int, default=10)
    run.add_argument("--first-seed", type=int, default=0)
    run.add_argument("--labels", type=int, nargs="+", default=[2, 4, 10, 20, 40, 80, 160])
    run.add_argument("--pool", type=int, help="images to label at most; all by default")
    run.add_argument("--test", type=int, default=2000, help="test images at most")
    run.add_argument("--holdout", type=float, help="as `dfal label` has it by default, or another")
    run.add_argument("--wait", choices=["features", "ranking", "nothing"], default="ranking")
    run.add_argument("--pace", type=float, help="seconds for an answer, with images loaded ahead")
    run.add_argument(
        "--rest", action="store_true", help="pause at each of --labels until the trainer rests"
    )
    run.add_argument("--kill-after", type=int, help="kill `dfal label` after so many annotations")
    run.add_argument("--options", default="", help="more options of `dfal label`, in one word")
    run.add_argument("--checkout", type=Path, default=HERE, help="whose dfal is run")
    run.add_argument("--parallel", type=int, default=1, help="seeds at a time")
    work = Path(tempfile.gettempdir()) / "dfal-photographs"
    run.add_argument("--work", type=Path, default=work, help="folder for images and stores")
    run.add_argument("--out", type=Path, default=RESULTS)
    run.set_defaults(call=_run)
    table = commands.add_parser("table", help="print the CSV as Markdown")
    table.add_argument("--out", type=Path, default=RESULTS)
    table.set_defaults(call=lambda options: print(markdown(read(options.out))))
    options = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, kill_all)
    options.call(options)


def _run(options: argparse.Namespace) -> None:
    checkout = options.checkout.resolve()
    commit = _commit(checkout)
    done = read(options.out)
    lock = threading.Lock()
    slots: queue.SimpleQueue[int] = queue.SimpleQueue()
    for slot in range(options.parallel):
        slots.put(slot)
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    last = max(options.labels)

    def one(job: tuple[int, str]) -> None:
        seed, arm = job
        empty = Row(Path(options.data).name, _arm_name(arm, options), seed, commit=commit)
        if (empty.data, empty.arm, seed, last) in done:
            print(f"{empty.data} {empty.arm} {seed}: done before", flush=True)
            return
        slot = slots.get()
        with lock:  # one unpacks the images, the other finds them
            data = prepare(options.data, seed, options.test, options.work, slot, options.pool)
        for row in labelled(data, arm, empty, checkout, options):
            with lock:
                append(options.out, row)
            print(
                f"{row.data} {row.arm} {seed}: {row.labels:4} labels {row.accuracy:.1%}"
                f" {row.backbone} {row.seconds:.0f} s",
                flush=True,
            )
        slots.put(slot)

    jobs = [(seed, arm) for seed in seeds for arm in options.arms]
    with ThreadPoolExecutor(options.parallel) as pool:
        for _ in pool.map(one, jobs):
            pass
    write(options.out.with_suffix(".json"), taken_on(["torch", "numpy", "pillow"]))


def _arm_name(arm: str, options: argparse.Namespace) -> str:
    """Return the arm's name with everything that is not the default."""
    parts = [arm]
    if options.pool is not None:
        parts.append(f"pool {options.pool}")
    if options.holdout is not None:
        parts.append(f"holdout {options.holdout:g}")
    if options.pace is not None:
        parts.append(f"pace {options.pace:g}")
    elif options.wait != "ranking":
        parts.append(f"wait {options.wait}")
    if options.rest:
        parts.append("with pauses")
    if options.kill_after is not None:
        parts.append(f"killed at {options.kill_after}")
    if options.options:
        parts.append(options.options)
    return ", ".join(parts)


def labelled(
    data: Photographs, arm: str, row: Row, checkout: Path, options: argparse.Namespace
) -> Iterator[Row]:
    """Label a folder, and yield a row for each number of annotations.

    The models are tested when the labelling has ended, so that nothing is trained meanwhile.

    Args:
        data: the images.
        arm: one of ARMS, or a backbone.
        row: what the rows have in common.
        checkout: whose dfal is run.
        options: of the command line.
    """
    command = [
        *ARMS.get(arm, ["--backbone", arm]),
        *(["--holdout", str(options.holdout)] if options.holdout is not None else []),
        *options.options.split(),
        *["--seed", str(row.seed)],
    ]
    folder = options.work / "stores" / f"{row.data}-{row.arm}-{row.seed}".replace(" ", "-")
    with Labelling(data, folder, command, checkout) as labelling:
        person = Person(labelling, data.truth, wait=options.wait, pace=options.pace)
        reached: list[tuple[Row, PresentModel | None]] = []
        for labels in sorted(options.labels):
            stop = options.kill_after
            if stop is not None and person.answers < stop <= labels:
                person.label_until(stop)
                labelling.kill()
                labelling.start()
            person.label_until(labels)
            if person.answers < labels:  # nothing is left to label
                break
            now = replace(
                row,
                labels=labels,
                classes=len(person.classes),
                seconds=round(person.seconds, 1),
                slowest=round(person.slowest, 2),
            )
            model = labelling.keep_model(person.teaching, rest=options.rest)
            reached.append((now, model))
        labelling.kill()
        for now, model in reached:
            if model is None:
                yield now
            else:
                yield _tested(
                    now,
                    model,
                    predict(model.path, data.test, checkout, checked=now is reached[-1][0]),
                    data,
                )


def _tested(row: Row, model: PresentModel, predicted: Predictions, data: Photographs) -> Row:
    right = sum(predicted[path][0] == label for path, label in data.test_truth.items())
    n = len(data.test_truth)
    low, high = wilson(right, n)
    return replace(
        row,
        trained_on=model.annotations,
        accuracy=right / n,
        low=low,
        high=high,
        test=n,
        confidence=float(np.mean([confidence for _, confidence in predicted.values()])),
        backbone=model.backbone,
        weights=model.digest,
    )


def _commit(checkout: Path) -> str:
    ran = subprocess.run(
        ["git", "-C", str(checkout), "rev-parse", "--short", "HEAD"],
        capture_output=True,
        text=True,
        check=False,
    )
    return ran.stdout.strip()


Key = tuple[str, str, int, int]
"""Data set, arm, seed, labels."""


def append(path: Path, row: Row) -> None:
    """Append a row, and the headings before the first one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow(
            {
                key: f"{value:.4f}" if isinstance(value, float) else value
                for key, value in asdict(row).items()
            }
        )


def read(path: Path) -> dict[Key, dict[str, str]]:
    """Return the rows of a CSV; of an interrupted run that was repeated, the later ones."""
    if not path.exists():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        return {
            (row["data"], row["arm"], int(row["seed"]), int(row["labels"])): row
            for row in csv.DictReader(file)
        }


def markdown(rows: dict[Key, dict[str, str]]) -> str:
    """Return a table for each data set: mean ± standard deviation over seeds, in per cent, and the
    paired difference of each arm to `default` with its 95 % t interval. A dash: no model yet."""
    lines = []
    for data in dict.fromkeys(key[0] for key in rows):
        arms = dict.fromkeys(key[1] for key in rows if key[0] == data)
        budgets = sorted({key[3] for key in rows if key[0] == data})
        lines += ["", f"**{data}**", "", "| arm | seeds | " + " | ".join(map(str, budgets)) + " |"]
        lines += ["|" + "---|" * (len(budgets) + 2)]
        for arm in arms:
            curves = [_by_seed(rows, data, arm, labels) for labels in budgets]
            seeds = max(len(curve) for curve in curves)
            cells = [_mean(list(curve.values()), seeds) for curve in curves]
            lines.append(_table_row(arm, seeds, cells))
        for arm in arms:
            if arm == "default" or "default" not in arms:
                continue
            differences = []
            for labels in budgets:
                ours, others = (_by_seed(rows, data, a, labels) for a in ("default", arm))
                both = ours.keys() & others.keys()
                differences.append(difference([100 * (others[s] - ours[s]) for s in both]))
            lines.append(_table_row(f"{arm} − default", None, differences))
    return "\n".join(lines).strip()


def _table_row(name: str, seeds: int | None, cells: list[str]) -> str:
    return f"| {name} | {seeds or ''} | " + " | ".join(cells) + " |"


def _by_seed(rows: dict[Key, dict[str, str]], data: str, arm: str, labels: int) -> dict[int, float]:
    """Return the accuracy of each seed that has a model."""
    found = {
        key[2]: float(row["accuracy"])
        for key, row in rows.items()
        if (key[0], key[1], key[3]) == (data, arm, labels)
    }
    return {seed: value for seed, value in found.items() if value == value}


def _mean(values: list[float], seeds: int) -> str:
    """Return mean and spread, and for how many seeds there is a model where it is not all."""
    if not values:
        return "–"
    spread = f" ± {100 * np.std(values, ddof=1):.1f}" if len(values) > 1 else ""
    some = f" ({len(values)} of {seeds})" if len(values) < seeds else ""
    return f"{100 * np.mean(values):.1f}{spread}{some}"


if __name__ == "__main__":
    main()
