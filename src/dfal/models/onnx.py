"""A network as ONNX, for other programs."""

import contextlib
import copy
import dataclasses
import importlib.util
import io
import json
import logging
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dfal.atomic import atomic_write
from dfal.errors import DfalError
from dfal.models.card import ModelCard, check
from dfal.models.weights import KEY
from dfal.nn.inference import unwrap_logits, unwrap_network
from dfal.plugins import line_of_user_code


def save_onnx(model: nn.Module, card: ModelCard, path: Path) -> None:
    """Write the network as ONNX: `images` (n, c, h, w) in [0, 1] go in, `logits` (n, classes) come
    out. The card goes with it.

    Raises:
        DfalError: where the extra `onnx` is not installed, the network cannot be exported, or the
        file cannot be written.
    """
    if not all(importlib.util.find_spec(name) for name in ("onnx", "onnxscript")):
        raise DfalError("ONNX needs two more packages: pip install 'dfal[onnx]'")
    check(model, card, str(path))
    with warnings.catch_warnings(), _quiet("torch"):
        warnings.simplefilter("ignore")
        try:
            program = torch.onnx.export(
                _Logits(copy.deepcopy(unwrap_network(model)).cpu().float()).eval(),
                (torch.zeros(2, *card.image),),
                input_names=["images"],
                output_names=["logits"],
                dynamic_shapes=({0: torch.export.Dim("n")},),
                dynamo=True,
                verbose=False,
            )
        except Exception as error:
            raise DfalError(
                f"the network {card.network} cannot be exported as ONNX: {_why(error)}"
            ) from None
    if program is None:
        raise DfalError(f"the network {card.network} cannot be exported as ONNX")
    proto: Any = program.model_proto
    if not proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param:
        raise DfalError(
            f"the network {card.network} cannot be exported as ONNX: it takes one number of images"
            " only, as a loop over them does; let it compute with all images of a batch at once"
        )
    told = {KEY: json.dumps(dataclasses.asdict(card)), "classes": json.dumps(card.classes)}
    if card.temperature is not None:
        told["temperature"] = repr(card.temperature)  # softmax(logits / temperature) is calibrated
    for name, text in told.items():
        proto.metadata_props.add(key=name, value=text)
    with atomic_write(path, "name another file", "the model") as part:
        part.write_bytes(proto.SerializeToString())


def _why(error: BaseException) -> str:
    """Return the cause of an export that failed and its cure, from a chain of errors that print the
    whole graph."""
    chain = [error]
    while (
        cause := chain[-1].__cause__ or chain[-1].__context__
    ) is not None and cause not in chain:
        chain.append(cause)
    where = next((text for one in reversed(chain) if (text := line_of_user_code(one))), "")
    for one in chain:
        if "DataDependent" in type(one).__name__ or "data-dependent" in str(one):
            at = f" ({where})" if where else ""
            return (
                f"it decides by the values of an image{at}, which no fixed graph can; use"
                " torch.where or a mask in its place"
            )
        if found := re.search(
            r"No ONNX function found for <?(?:OpOverload\(op=)?'?([\w.:]+)", str(one)
        ):
            return f"ONNX has nothing for the operation {found[1]}; put another in its place"
    text = (
        re.sub(r"\x1b\[[0-9;]*m", "", str(chain[-1])).strip().partition("\n")[0][:200]
        or type(chain[-1]).__name__
    )
    return (
        f"{text}{f', {where}' if where else ''}; PyTorch's torch.export must be able to follow it"
    )


class _Logits(nn.Module):
    """A network whose one logit, if it has one, counts as two: what `inference.logits` does, as
    operations only, in float32."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = unwrap_logits(self.model(images.clone()))
        if out.ndim == 1:
            out = out.unsqueeze(1)
        return F.pad(out, (1, 0)) if out.shape[1] == 1 else out


@contextlib.contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Without the warnings of a package's loggers, and without what it prints: PyTorch's exporter
    tells of every package that it does not find, and of a graph that it cannot make page by
    page."""
    loggers = [
        logging.getLogger(one)
        for one in (name, *logging.Logger.manager.loggerDict)
        if f"{one}.".startswith(f"{name}.")
    ]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
