"""Test saved models on a folder of images, with features of a backbone computed once."""

import csv
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

import dfal
from dfal import models
from dfal.backbones import FeatureClassifier
from dfal.data.image_files import fitted

BATCH = 64
"""Images in memory at a time."""
CHECKED = 40
"""Images for which `dfal predict` is asked too."""

Predictions = dict[str, tuple[str, float]]
"""File name → label and confidence."""


def predict(model: Path, folder: Path, checkout: Path, *, checked: bool) -> Predictions:
    """Return label and confidence of each image in a folder.

    Where the model is a linear layer on features, the features are computed once and kept.
    Otherwise `dfal predict` is run.

    Args:
        model: the file.
        folder: of the images.
        checkout: whose `dfal predict` is run.
        checked: whether to run `dfal predict` on some images for comparison.

    Raises:
        RuntimeError: where `dfal predict` says something else.
    """
    network = None
    if Path(dfal.__file__).resolve().parents[1] == checkout / "src":
        saved = models.load(model)
        network = saved.network if isinstance(saved.network, FeatureClassifier) else None
    if network is None:
        return by_command(model, folder, checkout)
    files = sorted(folder.iterdir())
    features = _features(network.body, files, saved.card.image)
    with torch.inference_mode():
        z = F.normalize((features - network.mean) @ network.projection.T)
        logits: Float[Tensor, "n c"] = network.head(z) / (saved.card.temperature or 1.0)
    confidences, classes = logits.softmax(1).max(1)
    pairs = zip(classes.tolist(), confidences.tolist(), strict=True)
    predictions = {
        file.name: (saved.card.classes[label], confidence)
        for file, (label, confidence) in zip(files, pairs, strict=True)
    }
    if checked:
        _compare(predictions, model, files[:CHECKED], checkout)
    return predictions


def _compare(predictions: Predictions, model: Path, files: list[Path], checkout: Path) -> None:
    some = model.with_suffix(".images")
    some.mkdir(exist_ok=True)
    for file in files:
        (some / file.name).unlink(missing_ok=True)
        os.link(file, some / file.name)
    for name, (label, confidence) in by_command(model, some, checkout).items():
        ours = predictions[name]
        if abs(ours[1] - confidence) > 0.01 or (label != ours[0] and confidence > 0.51):
            raise RuntimeError(f"{name}: dfal predict says {label} {confidence}, but it is {ours}")


def _features(
    body: nn.Module, files: list[Path], image: tuple[int, int, int]
) -> Float[Tensor, "n d"]:
    """Return the features of files, and keep each by what the file holds."""
    digest = hashlib.sha256(repr((image, type(body).__name__)).encode())
    for name, tensor in sorted(body.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    kept = files[0].parents[2] / "features" / digest.hexdigest()[:16]
    kept.mkdir(parents=True, exist_ok=True)
    paths = [kept / f"{hashlib.sha256(file.read_bytes()).hexdigest()[:24]}.npy" for file in files]
    missing = [pair for pair in zip(files, paths, strict=True) if not pair[1].exists()]
    c, h, w = image
    for start in range(0, len(missing), BATCH):
        batch = missing[start : start + BATCH]
        arrays = np.stack([fitted(file, (h, w), c) for file, _ in batch]).transpose(0, 3, 1, 2)
        with torch.inference_mode():
            rows = body(torch.from_numpy(arrays.copy()).float().div_(255)).float().numpy()
        for row, (_, path) in zip(rows, batch, strict=True):
            part = path.with_suffix(f".{os.getpid()}.npy")
            np.save(part, row)
            part.rename(path)
    return torch.from_numpy(np.stack([np.load(path) for path in paths]))


def by_command(model: Path, folder: Path, checkout: Path) -> Predictions:
    """Return what `dfal predict` of a checkout says.

    Raises:
        RuntimeError: with its sentence, where it fails.
    """
    out = model.with_suffix(".csv")
    command = [sys.executable, "-m", "dfal", "predict", str(model), str(folder), "--out", str(out)]
    environment = os.environ | {"PYTHONPATH": str(checkout / "src")}
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if ran.returncode:
        raise RuntimeError(ran.stderr)
    with out.open(newline="", encoding="utf-8") as file:
        return {
            row["path"]: (row["label"], float(row["confidence"])) for row in csv.DictReader(file)
        }
