"""A network as ONNX, for other programs."""

import contextlib
import copy
import dataclasses
import importlib.util
import json
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dfal.inside import bare, logits_in
from dfal.models.card import ModelCard, check
from dfal.models.weights import KEY, written
from dfal.types import DfalError


def save_onnx(model: nn.Module, card: ModelCard, path: Path) -> None:
    """Write the network as ONNX: `images` (n, c, h, w) in [0, 1] go in, `logits` (n, classes) come out. The card goes with it.

    Raises:
        DfalError: where the extra `onnx` is not installed, the network cannot be exported, or the file cannot be written.
    """
    if not all(importlib.util.find_spec(name) for name in ("onnx", "onnxscript")):
        raise DfalError("ONNX needs two more packages: pip install 'dfal[onnx]'")
    check(model, card, str(path))
    with warnings.catch_warnings(), _quiet("torch.onnx"):
        warnings.simplefilter("ignore")
        try:
            program = torch.onnx.export(
                _Logits(copy.deepcopy(bare(model)).cpu().float()).eval(),
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
    with written(path) as half:
        half.write_bytes(proto.SerializeToString())


class _Logits(nn.Module):
    """A network whose one logit, if it has one, counts as two: what `inside.logits` does, as operations
    only, in float32."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = logits_in(self.model(images.clone()))
        if out.ndim == 1:
            out = out.unsqueeze(1)
        return F.pad(out, (1, 0)) if out.shape[1] == 1 else out


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
