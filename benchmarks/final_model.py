"""What does `dfal train` gain by training the whole network? Accuracy on other images, and minutes
of one CPU.

    python benchmarks/final_model.py FOLDER [--labels 200 600] [--seeds 1] [--side 0]

FOLDER has a sub-folder for each class. For each seed, images are drawn at random: `--test` to
measure, the labelled ones, and `--pool` without a label. A store is made of the latter two, and
`dfal train` runs on it twice, with a linear layer alone (--no-fine-tune) and with --fine-tune. With
--side the backbone receives smaller images than its own.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from dfal import models
from dfal.labelling.learning.final import train_final
from dfal.labelling.learning.final_settings import FinalSettings
from dfal.labelling.settings import Settings
from dfal.labelling.store.session import Session
from measure import taken_on, write

ENDINGS = {".jpg", ".jpeg", ".png"}


def main() -> None:
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("--labels", type=int, nargs="+", default=[200])
    arguments.add_argument("--seeds", type=int, default=1)
    arguments.add_argument("--backbone", default="lite0")
    arguments.add_argument("--side", type=int, default=0)
    arguments.add_argument("--test", type=int, default=1000)
    arguments.add_argument("--pool", type=int, default=2000)
    options = arguments.parse_args()
    files = sorted(path for path in options.folder.rglob("*") if path.suffix in ENDINGS)
    rows = []
    for labels in options.labels:
        for seed in range(options.seeds):
            row = compared(files, labels, seed, options)
            rows.append({"labels": labels, "seed": seed, **row})
            print(rows[-1], flush=True)
            name = f"final_model-{options.folder.name}.json"
            figures = {"folder": options.folder.name, **vars(options), "rows": rows}
            figures["folder"] = options.folder.name
            write(Path(__file__).parent / "results" / name, taken_on(["torch"]) | figures)


def compared(
    files: list[Path], labels: int, seed: int, options: argparse.Namespace
) -> dict[str, object]:
    """Return accuracy and CPU minutes of both ways of training on the same labels."""
    order = np.random.default_rng(seed).permutation(len(files))
    test = [files[i] for i in order[: options.test]]
    known = [files[i] for i in order[options.test :][: labels + options.pool]]
    names = [f"{number:05}{path.suffix}" for number, path in enumerate(known)]
    classes = sorted({path.parent.name for path in files})
    figures: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as temporary:
        photos, store = Path(temporary) / "photos", Path(temporary) / "photos.labels.db"
        photos.mkdir()
        for name, path in zip(names, known, strict=True):
            (photos / name).symlink_to(path.resolve())
        truth = {name: path.parent.name for name, path in zip(names[:labels], known, strict=False)}
        settings = Settings(folder=str(photos), backbone=options.backbone, size=64, channels=3)
        Session.start(store, settings, names, classes, truth).close()
        for way, fine_tune in (("linear layer", False), ("fine-tuned", True)):
            began = time.process_time()
            final = FinalSettings(fine_tune=fine_tune, device="cpu", size=options.side)
            report = train_final(store, settings=final)
            minutes = (time.process_time() - began) / 60
            predictions = list(models.label(models.load(report.path), test))
            right = [
                isinstance(prediction, models.Prediction) and prediction.label == path.parent.name
                for path, prediction in zip(test, predictions, strict=True)
            ]
            figures[way] = {
                "accuracy": round(float(np.mean(right)), 4),
                "network": report.network,
                "cpu_minutes": round(minutes, 1),
                "why": report.why[-1],
            }
    return figures


if __name__ == "__main__":
    main()
