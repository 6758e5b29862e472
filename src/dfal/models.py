"""A model to take home: one safetensors file with its card inside, the same as ONNX, and what it says of other images."""

import contextlib
import copy
import dataclasses
import hashlib
import importlib.util
import json
import logging
import platform
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as packed
from torch import Tensor, nn
from torch.nn import functional as F

from dfal.attacks import DeepFool
from dfal.inside import device_of, logits, looking, predict
from dfal.networks import NETWORKS, build
from dfal.pictures import fitted
from dfal.types import DfalError

KEY = "dfal"
"""Under this name the card lies in the file's metadata."""
PART = 256
"""Images that are decoded and predicted together."""


def _versions() -> dict[str, str]:
    return {name: version(name) for name in ("dfal", "torch", "numpy", "pillow")} | {"python": platform.python_version()}


@dataclass(frozen=True)
class ModelCard:
    """What somebody who gets the file must know to use the model, and to trust it.

    Attributes:
        classes: the name of each logit.
        image: channels, height and width that it wants, in [0, 1]; images are fitted into them whole (`dfal.pictures.fitted`).
        network: `lenet5`, `vgg8`, or the `package.module:function` that makes it.
        annotations: answers that people gave, which it was trained on.
        accuracy: fraction right on a hold-out that was drawn at random, if there was one.
        interval: the 95 % interval of the accuracy.
        held_out: images in that hold-out.
        licence: of the weights.
        about: anything else, in words.
        versions: of what made it.
    """

    classes: tuple[str, ...]
    image: tuple[int, int, int]
    network: str = "lenet5"
    annotations: int = 0
    accuracy: float | None = None
    interval: tuple[float, float] | None = None
    held_out: int = 0
    licence: str = "not given"
    about: str = ""
    versions: dict[str, str] = field(default_factory=_versions)

    def lines(self) -> dict[str, str]:
        """The card for people: heading → text."""
        c, h, w = self.image
        measured = "not measured"
        if self.accuracy is not None:
            low, high = self.interval or (float("nan"), float("nan"))
            measured = (
                f"{self.accuracy:.1%} (95 % interval {low:.1%} to {high:.1%}) on {self.held_out:,} images held out at random"
            )
        found = {
            "classes": ", ".join(self.classes),
            "network": self.network,
            "images": f"{h}×{w} pixels, {'colour' if c == 3 else 'grey'}, fitted in whole, values from 0 to 1",
            "trained on": f"{self.annotations:,} annotations",
            "accuracy": measured,
            "licence": self.licence,
            "made with": ", ".join(f"{name} {number}" for name, number in self.versions.items()),
        }
        return found | ({"about": self.about} if self.about else {})


@dataclass(frozen=True)
class SavedModel:
    """A network with its card, ready to be asked."""

    network: nn.Module
    card: ModelCard


@dataclass(frozen=True)
class Prediction:
    """What a model says of an image file: the class, its probability, and the distance to the boundary if it was asked for."""

    path: Path
    label: str
    confidence: float
    distance: float | None = None


def save(model: nn.Module, card: ModelCard, path: Path) -> None:
    """Write weights and card as one file, which replaces an older one only when it is whole.

    Raises:
        DfalError: where the card does not fit the network, or the file cannot be written.
    """
    _check(model, card, str(path))
    tensors = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in model.state_dict().items()}
    text = json.dumps(dataclasses.asdict(card), sort_keys=True)
    content = packed(tensors, {KEY: text, "sha256": _digest(text, tensors)})
    with _written(path) as half:
        half.write_bytes(content)


def load(path: Path, network: str | None = None) -> SavedModel:
    """Read a model. Nothing in the file is executed.

    Args:
        path: what `save` wrote.
        network: the `package.module:function` that may be imported, where the model is not one of dfal's own.

    Raises:
        DfalError: for a file that is none, is damaged or was changed, and for a network whose code may not be run.
    """
    if not path.is_file():
        raise DfalError(f"there is no model {path}: name a .safetensors file that is there")
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  it is no dict
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise DfalError(f"{path} is damaged or no model ({str(error).splitlines()[0]}): get it again") from None
    if KEY not in metadata:
        raise DfalError(f"{path} has no card of dfal: only models that dfal saved can be read")
    if _digest(metadata[KEY], tensors) != metadata.get("sha256"):
        raise DfalError(f"{path} was changed since it was saved: its checksum does not fit; get it again")
    card = _card(metadata[KEY], path)
    own = card.network in NETWORKS
    if not own and network != card.network:
        raise DfalError(f"{path} was made with the network {card.network}: say --model {card.network} if its code may be run")
    # Without memory of its own: a card that asks for a giant network is found out before it is made.
    with torch.device("meta") if own else contextlib.nullcontext():
        model = build(card.network, card.image, len(card.classes))
    try:
        model.load_state_dict(tensors, assign=own)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise DfalError(f"the weights in {path} do not fit the network {card.network} ({reason[:200]}): get it again") from None
    model.eval()
    _check(model, card, str(path))
    return SavedModel(model, card)


def save_onnx(model: nn.Module, card: ModelCard, path: Path) -> None:
    """Write the network as ONNX: `images` (n, c, h, w) in [0, 1] go in, `logits` (n, classes) come out. The card goes with it.

    Raises:
        DfalError: where the extra `onnx` is not installed, the network cannot be exported, or the file cannot be written.
    """
    if not all(importlib.util.find_spec(name) for name in ("onnx", "onnxscript")):
        raise DfalError("ONNX needs two more packages: pip install 'dfal[onnx]'")
    _check(model, card, str(path))
    with warnings.catch_warnings(), _quiet("torch.onnx"):
        warnings.simplefilter("ignore")
        try:
            program = torch.onnx.export(
                _Logits(copy.deepcopy(model).cpu()).eval(),
                (torch.zeros(2, *card.image),),
                input_names=["images"],
                output_names=["logits"],
                dynamic_shapes=({0: torch.export.Dim("n")},),
                dynamo=True,
                verbose=False,
            )
        except Exception as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise DfalError(f"the network {card.network} cannot be exported as ONNX ({reason[:200]})") from None
    if program is None:
        raise DfalError(f"the network {card.network} cannot be exported as ONNX")
    proto: Any = program.model_proto
    for name, text in {KEY: json.dumps(dataclasses.asdict(card)), "classes": json.dumps(card.classes)}.items():
        proto.metadata_props.add(key=name, value=text)
    with _written(path) as half:
        half.write_bytes(proto.SerializeToString())


def label(saved: SavedModel, paths: list[Path], distances: bool = False) -> Iterator[Prediction | tuple[Path, str]]:
    """What a model says of image files, in their order; for one that cannot be read, its path and the reason.

    Args:
        saved: the model.
        paths: of the files.
        distances: also measure how far each image lies from the decision boundary (`DeepFool`, L2).
    """
    c, h, w = saved.card.image

    def pixels(path: Path) -> NDArray[np.uint8] | str:
        try:
            return fitted(path, (h, w), c)
        except ValueError as error:
            return str(error)

    with ThreadPoolExecutor() as pool:
        for start in range(0, len(paths), PART):
            part = paths[start : start + PART]
            found = list(pool.map(pixels, part))
            read = [one for one in found if isinstance(one, np.ndarray)]
            answers = iter(_answers(saved, read, distances) if read else [])
            for path, one in zip(part, found, strict=True):
                yield (path, one) if isinstance(one, str) else Prediction(path, *next(answers))


def _answers(saved: SavedModel, read: list[NDArray[np.uint8]], distances: bool) -> list[tuple[str, float, float | None]]:
    images = torch.from_numpy(np.stack(read).transpose(0, 3, 1, 2).astype(np.float32)).div_(255)
    confidences, labels = predict(saved.network, images).softmax(1).max(1)
    far = DeepFool()(saved.network, images).distance.tolist() if distances else [None] * len(read)
    names = [saved.card.classes[at] for at in labels.tolist()]
    return list(zip(names, confidences.tolist(), far, strict=True))


class _Logits(nn.Module):
    """A network whose one logit, if it has one, counts as two: what `inside.logits` does, as operations only."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.model(images)
        if out.ndim == 1:
            out = out.unsqueeze(1)
        return F.pad(out, (1, 0)) if out.shape[1] == 1 else out


def _check(model: nn.Module, card: ModelCard, name: str) -> None:
    """Raise unless the network takes such images and gives a logit for each class."""
    try:
        with looking(model), torch.no_grad():
            found = logits(model, torch.zeros(1, *card.image, device=device_of(model))).shape[1]
    except DfalError:
        raise
    except (RuntimeError, TypeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise DfalError(f"the network {card.network} of {name} cannot take images of shape {card.image} ({reason})") from None
    if found != len(card.classes):
        raise DfalError(
            f"the network {card.network} of {name} gives {found} logits, but its card names {len(card.classes)} classes"
        )


def _card(text: str, path: Path) -> ModelCard:
    """The card in a file: every field of its type, and nothing else."""
    try:
        given: Any = {name: tuple(value) if isinstance(value, list) else value for name, value in json.loads(text).items()}
        card = ModelCard(**given)
        good = _is_good(card)
    except (TypeError, ValueError, AttributeError):
        good = False
    if not good:
        raise DfalError(f"the card in {path} is of another version of dfal, or damaged: save the model again")
    return card


def _is_good(card: Any) -> bool:
    return (
        len(card.classes) > 1
        and _all(card.classes, str)
        and len(card.image) == 3
        and _all(card.image, int)
        and card.image[0] in {1, 3}
        and min(card.image) > 0
        and _all((card.network, card.licence, card.about), str)
        and _all((card.annotations, card.held_out), int)
        and (card.accuracy is None or _all((card.accuracy,), float, int))
        and (card.interval is None or (len(card.interval) == 2 and _all(card.interval, float, int)))
        and _all((*card.versions, *card.versions.values()), str)
    )


def _all(values: Any, *kinds: type) -> bool:
    return isinstance(values, tuple) and all(type(value) in kinds for value in values)


def _digest(card: str, tensors: dict[str, Tensor]) -> str:
    """SHA-256 over the card and all weights."""
    digest = hashlib.sha256(card.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


@contextlib.contextmanager
def _written(path: Path) -> Iterator[Path]:
    """A file beside `path`, which becomes it when it is whole."""
    half = path.with_name(f"{path.name}.part")
    try:
        yield half
        half.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            half.unlink()
        raise DfalError(f"the model {path} cannot be written ({error.strerror}): name another file") from None


@contextlib.contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Without the warnings of a logger: PyTorch's exporter tells of every package that it does not find."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
