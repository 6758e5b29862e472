"""Are adversarial twins worth more than other rows, at equal steps and with equal labels?

    python benchmarks/twins.py run --data mnist-5k --strategies dfal margin core-set random
    python benchmarks/twins.py run --data mnist --strategies dfal random
    python benchmarks/twins.py table

Labels are selected once for a strategy and a seed: 30 at random, then 30 a round by a network that
was trained on the labels alone. On the same labels networks are then trained in several forms, all
for the same number of steps of Adam on mini-batches of one size and from the same initial weights;
what differs is which rows stand beside the labelled images:

- `none`: no rows.
- `twins`: x + r, the adversarial example of each queried image, by the network that queried it.
- `noise`: x + n with a random direction n of the twin's length, ‖n‖₂ = ‖r‖₂.
- `duplicates`: x, once more.
- `farther`: x + 4 r.
- `both classes`: each twin twice, with its label and with the class that it was taken for, which is
  a target of one half each.

Rows are appended to results/twins.csv as they come. The same command resumes: what is there is
skipped.
"""

import argparse
import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

import dfal
from dfal.data import datasets
from dfal.data.datasets import Dataset
from dfal.pool import LabelledData, Pool
from dfal.seeding import derive_seed, generator
from dfal.strategies import WithTwins, named
from measure import difference, taken_on, write

RESULTS = Path(__file__).resolve().parents[1] / "results" / "twins.csv"
BATCH = 30
"""Images labelled at random at first, and queried in each round."""
BUDGETS = (150,)
"""Labels at which the forms are compared."""
FARTHER = 4
TRAINING = dfal.Training(epochs=1, steps=1000)
COLUMNS = ["data", "strategy", "seed", "labels", "form", "rows", "length", "accuracy"]


@dataclass(frozen=True)
class Twins:
    """Queried images with their adversarial examples.

    Attributes:
        images: x.
        labels: their classes.
        source: their indices.
        examples: x + r.
        taken_for: the class that the network that queried them saw in x + r.
    """

    images: Float[Tensor, "t *image"]
    labels: Int64[Tensor, "t"]
    source: Int64[Tensor, "t"]
    examples: Float[Tensor, "t *image"]
    taken_for: Int64[Tensor, "t"]

    @property
    def change(self) -> Float[Tensor, "t *image"]:
        """Return r."""
        return self.examples - self.images

    def rows(self, images: Float[Tensor, "t *image"]) -> LabelledData:
        """Return rows with the labels of the twins."""
        return LabelledData(images, self.labels, self.source)

    def __add__(self, other: "Twins") -> "Twins":
        mine, its = vars(self), vars(other)
        return Twins(**{name: torch.cat([mine[name], its[name]]) for name in mine})


def _noise(twins: Twins, seed: int) -> LabelledData:
    noise = torch.randn(twins.images.shape, generator=generator(seed, 0, "noise"))
    length, drawn = (r.flatten(1).norm(dim=1) for r in (twins.change, noise))
    return twins.rows(twins.images + noise * (length / drawn)[:, None, None, None])


def _both_classes(twins: Twins, seed: int) -> LabelledData:
    return _joined(
        [twins.rows(twins.examples), replace(twins, labels=twins.taken_for).rows(twins.examples)]
    )


FORMS: dict[str, Callable[[Twins, int], LabelledData] | None] = {
    "none": None,
    "twins": lambda twins, seed: twins.rows(twins.examples),
    "noise": _noise,
    "duplicates": lambda twins, seed: twins.rows(twins.images),
    "farther": lambda twins, seed: twins.rows(twins.images + FARTHER * twins.change),
    "both classes": _both_classes,
}
"""Name → the rows that stand beside the labelled images."""


def _joined(parts: list[LabelledData]) -> LabelledData:
    names = ("images", "labels", "source")
    return LabelledData(*(torch.cat([getattr(part, name) for part in parts]) for name in names))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    run = commands.add_parser("run", help="train, and append to the CSV")
    run.add_argument("--data", default="mnist-5k")
    run.add_argument("--strategies", nargs="+", default=["dfal", "margin", "core-set", "random"])
    run.add_argument("--seeds", type=int, default=10)
    run.add_argument("--forms", nargs="+", choices=FORMS, default=[*FORMS])
    run.add_argument("--out", type=Path, default=RESULTS)
    run.set_defaults(call=_run)
    table = commands.add_parser("table", help="print the CSV as Markdown")
    table.add_argument("--out", type=Path, default=RESULTS)
    table.set_defaults(call=lambda options: print(markdown(read(options.out))))
    options = parser.parse_args()
    options.call(options)


def _run(options: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    data = datasets.load(options.data)
    done = read(options.out)
    for seed in range(options.seeds):
        for name in options.strategies:
            keys = {(options.data, name, seed, n, form) for n in BUDGETS for form in options.forms}
            if keys <= done.keys():
                continue
            for row in compared(data, name, seed, options.forms):
                _append(options.out, {"data": options.data, "strategy": name, "seed": seed, **row})
                print(options.data, name, seed, *row.values(), flush=True)
    write(options.out.with_suffix(".json"), taken_on(["dfal", "torch"]))


def compared(
    data: Dataset, name: str, seed: int, forms: list[str]
) -> Iterator[dict[str, int | float | str]]:
    """Select labels once, and yield a row of the CSV for each budget and form.

    Args:
        data: pool and test images.
        name: of the strategy.
        seed: of the first labels, the strategy and the networks.
        forms: some of FORMS.
    """
    first = torch.randperm(len(data.images), generator=generator(seed, 0, "initial"))[:BATCH]
    pool = Pool.new(data.images, {int(i): int(data.labels[i]) for i in first})
    test = data.test_images.take(torch.arange(len(data.test_images)))
    strategy = WithTwins(named(name))
    twins: Twins | None = None
    while True:
        fit_seed = derive_seed(seed, pool.round, "fit")
        model = dfal.fit(dfal.lenet5, pool.labelled_data(), TRAINING, fit_seed)
        if twins is not None and pool.annotations in BUDGETS:
            for form in forms:
                made = FORMS[form]
                extra = [made(twins, seed)] if made else []
                rows = _joined([pool.labelled_data(), *extra])
                trained = dfal.fit(dfal.lenet5, rows, TRAINING, fit_seed) if extra else model
                right = dfal.predict(trained, test).argmax(1) == data.test_labels
                yield {
                    "labels": pool.annotations,
                    "form": form,
                    "rows": sum(len(part.labels) for part in extra),
                    "length": round(float(twins.change.flatten(1).norm(dim=1).mean()), 4),
                    "accuracy": round(float(right.float().mean()), 4),
                }
        if pool.annotations == max(BUDGETS):
            return
        query = strategy(model, pool, BATCH, generator(seed, pool.round, "select"))
        assert query.twins is not None and query.twinned is not None  # of WithTwins, always
        new = Twins(
            data.images.take(query.twinned),
            data.labels[query.twinned],
            query.twinned,
            query.twins,
            dfal.predict(model, query.twins).argmax(1),
        )
        twins = new if twins is None else twins + new
        # What is selected next is the same in all forms.
        pool = pool.learn(replace(query, twins=None, twinned=None), data.labels[query.indices])


Key = tuple[str, str, int, int, str]
"""Data set, strategy, seed, labels, form."""


def _append(path: Path, row: dict[str, int | float | str]) -> None:
    new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow(row)


def read(path: Path) -> dict[Key, float]:
    """Return the accuracies of a CSV."""
    if not path.exists():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        return {
            (
                row["data"],
                row["strategy"],
                int(row["seed"]),
                int(row["labels"]),
                row["form"],
            ): float(row["accuracy"])
            for row in csv.DictReader(file)
        }


def markdown(found: dict[Key, float]) -> str:
    """Return a table for each data set and budget: the accuracy of `none`, and the paired
    difference of each form to it, in points, with half of the 95 % t interval."""
    lines = []
    for data, labels in dict.fromkeys((key[0], key[3]) for key in found):
        forms = [form for form in FORMS if form != "none"]
        lines += ["", f"**{data}, {labels} labels**", ""]
        lines += ["| selected by | seeds | none | " + " | ".join(forms) + " |"]
        lines += ["|" + "---|" * (len(forms) + 3)]
        for strategy in dict.fromkeys(key[1] for key in found if key[0] == data):
            of = {
                form: {
                    key[2]: 100 * accuracy
                    for key, accuracy in found.items()
                    if key[:2] == (data, strategy) and key[3:] == (labels, form)
                }
                for form in FORMS
            }
            none = of.pop("none")
            cells = [difference([form[s] - none[s] for s in form]) for form in of.values()]
            mean = f"{np.mean(list(none.values())):.1f}"
            lines += [f"| {strategy} | {len(none)} | {mean} | " + " | ".join(cells) + " |"]
    return "\n".join(lines).strip()


if __name__ == "__main__":
    main()
