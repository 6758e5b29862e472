"""Save and load a network as one safetensors file with its card inside."""

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save as packed
from torch import Tensor, nn

from dfal import backbones
from dfal.atomic import atomic_write
from dfal.backbones import FeatureClassifier
from dfal.backbones.registry import is_registered
from dfal.damage import damage
from dfal.errors import DfalError, first_line
from dfal.models.card import ModelCard, check, read
from dfal.nn import NETWORKS
from dfal.nn.evaluation import unwrap_network
from dfal.nn.networks import build
from dfal.plugins import unnamed_code

KEY = "dfal"
"""Key of the card in the file's metadata."""


@dataclass(frozen=True)
class SavedModel:
    """A network with its card, ready to predict."""

    network: nn.Module
    card: ModelCard


def save(model: nn.Module, card: ModelCard, path: Path) -> None:
    """Write weights and card as one file, which replaces an older one only when it is whole.

    Args:
        model: the network.
        card: what is needed to use it.
        path: of the file to write.

    Raises:
        DfalError: where the card does not fit the network, or the file cannot be written.
    """
    card = completed(model, card)
    check(model, card, str(path))
    tensors = {
        name: tensor.detach().cpu().clone().contiguous()
        for name, tensor in unwrap_network(model).state_dict().items()
    }
    text = json.dumps(dataclasses.asdict(card), sort_keys=True)
    content = _in_order(packed(tensors, {KEY: text, "sha256": _digest(text, tensors)}))
    with atomic_write(path, "name another file", "the model") as part:
        part.write_bytes(content)


def _in_order(content: bytes) -> bytes:
    """Return a file of safetensors with its header sorted: the library's order is random."""
    start = 8 + int.from_bytes(content[:8], "little")
    text = json.dumps(json.loads(content[8:start]), sort_keys=True).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of 8 bytes
    return len(text).to_bytes(8, "little") + text + content[start:]


def load(path: Path, network: str | None = None) -> SavedModel:
    """Read a model. Nothing in the file is executed.

    Args:
        path: what `save` wrote.
        network: the `package.module:function` that may be imported, where the model is not one of
            dfal's own.

    Raises:
        DfalError: for a file that is none, is damaged or was changed, and for a network whose code
            may not be run.
    """
    if not path.is_file():
        raise DfalError(f"there is no model {path}: name a .safetensors file that is there")
    with _reading(path), safe_open(path, "pt") as file:
        metadata = file.metadata() or {}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  it is no dict
    if KEY not in metadata:
        raise DfalError(f"{path} has no card of dfal: only models that dfal saved can be read")
    with _reading(path):
        digest = _digest(metadata[KEY], tensors)
    if digest != metadata.get("sha256"):
        raise DfalError(
            f"{path} was changed since it was saved: its checksum does not fit; get it again"
        )
    card = read(metadata[KEY], path)
    known = card.network in NETWORKS if card.recipe is None else is_registered(card.network)
    if not known and network != card.network:
        raise unnamed_code(path, "network", card.network, option="model")
    try:
        model = _rebuilt(card, tensors)
    except (RuntimeError, KeyError) as error:
        reason = " ".join(str(error).split())
        raise DfalError(
            f"the weights in {path} do not fit the network {card.network} ({reason[:200]}): get it"
            " again"
        ) from None
    model.eval()
    check(model, card, str(path))
    return SavedModel(model, card)


def completed(model: nn.Module, card: ModelCard) -> ModelCard:
    """Return the card with the recipe of the network's backbone, if it has one."""
    network = unwrap_network(model)
    recipe = network.recipe if isinstance(network, FeatureClassifier) else None
    return dataclasses.replace(card, recipe=recipe)


def _rebuilt(card: ModelCard, tensors: dict[str, Tensor]) -> nn.Module:
    """Return a card's network with its weights.

    Raises:
        DfalError: where the network cannot be made.
        RuntimeError: for weights that do not fit.
        KeyError: for weights that are missing.
    """
    if card.recipe is not None:
        return _rebuilt_classifier(card, card.recipe, tensors)
    # A registered network is made without memory of its own, so that a damaged card cannot ask for
    # a giant one.
    registered = card.network in NETWORKS
    with torch.device("meta") if registered else contextlib.nullcontext():
        model = build(card.network, card.image, len(card.classes))
    if any(
        tensor.dtype != tensors[name].dtype
        for name, tensor in model.state_dict().items()
        if registered and name in tensors
    ):
        raise RuntimeError("they are of another precision")
    model.load_state_dict(tensors, assign=registered)
    return model


def _rebuilt_classifier(
    card: ModelCard, recipe: dict[str, Any], tensors: dict[str, Tensor]
) -> FeatureClassifier:
    """Return the network of a backbone and a linear layer."""
    prefix = "body."
    weights = {k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)}
    body = backbones.rebuild(card.network, card.image, recipe, weights)
    mean, projection, weight = tensors["mean"], tensors["projection"], tensors["head.weight"]
    if (projection.ndim, weight.ndim) != (2, 2) or projection.shape[1:] != mean.shape:
        raise RuntimeError("they have other shapes")
    head = nn.Linear(weight.shape[1], weight.shape[0], bias="head.bias" in tensors)
    model = FeatureClassifier(body, mean, projection, head)
    rest = {name: tensor for name, tensor in tensors.items() if not name.startswith(prefix)}
    if unknown := model.load_state_dict(rest, strict=False).unexpected_keys:
        raise RuntimeError(f"there is no {unknown[0]}")
    return model


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn the errors of reading a file that may be no model into one sentence.

    Raises:
        DfalError: in place of any other error.
    """
    try:
        with damage(str(path)):
            yield
    except DfalError as error:
        reason = error.__cause__
        raise DfalError(
            f"{path} is damaged or no model ({first_line(reason or error)}): get it again"
        ) from None


def _digest(card: str, tensors: dict[str, Tensor]) -> str:
    """Return the SHA-256 of the card and all weights."""
    digest = hashlib.sha256(card.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
