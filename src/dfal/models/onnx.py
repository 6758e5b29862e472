"""Export a network as ONNX, for other programs."""

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
from dfal.models.weights import KEY, completed
from dfal.nn.evaluation import unwrap_network
from dfal.nn.inference import unwrap_logits
from dfal.plugins import line_of_user_code


def save_onnx(model: nn.Module, card: ModelCard, path: Path) -> None:
    """Write the network and its card as one ONNX file.

    Its input `images` is (n, c, h, w), with values in [0, 1]; its outputs are `logits`,
    (n, classes), and `probabilities`, their softmax at the card's temperature. The metadata hold
    all that another program needs: `classes`, and `preprocessing`, which says how an image file
    becomes a row of `images` (`preprocessing`).

    Args:
        model: the network.
        card: what is needed to use it.
        path: of the file to write.

    Raises:
        DfalError: where the extra `onnx` is not installed, the network cannot be exported, or the
            file cannot be written.
    """
    if not all(importlib.util.find_spec(name) for name in ("onnx", "onnxscript")):
        raise DfalError("ONNX needs two more packages: pip install 'dfal[onnx]'")
    if any(hasattr(module, "onnx_content") for module in model.modules()):
        raise DfalError(
            f"the network {card.network} cannot be exported as ONNX, because its backbone is an"
            " ONNX graph itself: save the model as .safetensors, which holds the graph"
        )
    card = completed(model, card)
    check(model, card, str(path))
    with warnings.catch_warnings(), _quiet("torch"):
        warnings.simplefilter("ignore")
        try:
            program = torch.onnx.export(
                _Outputs(
                    copy.deepcopy(unwrap_network(model)).cpu().float(), card.temperature or 1.0
                ).eval(),
                (torch.zeros(2, *card.image),),
                input_names=["images"],
                output_names=["logits", "probabilities"],
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
    metadata = {
        KEY: json.dumps(dataclasses.asdict(card)),
        "classes": json.dumps(card.classes),
        "preprocessing": json.dumps(preprocessing(card)),
    }
    if card.temperature is not None:
        metadata["temperature"] = repr(card.temperature)  # `probabilities` are calibrated by it
    for name, text in metadata.items():
        proto.metadata_props.add(key=name, value=text)
    with atomic_write(path, "name another file", "the model") as part:
        part.write_bytes(proto.SerializeToString())


def preprocessing(card: ModelCard) -> dict[str, Any]:
    """Describe how an image file becomes a row of `images`, as `dfal.data.image_files.fitted` does.

    The steps are in the order in which they are done.

    Args:
        card: of the model.
    """
    c, h, w = card.image
    return {
        "input": "images",
        "shape": ["n", c, h, w],
        "dtype": "float32",
        "jpeg_draft": 2 * max(h, w),
        "bits": "8; of more, scaled by their full range",
        "orientation": "upright, by EXIF",
        "transparency": "on white",
        "mode": "RGB" if c == 3 else "L",
        "resize": {
            "to_fit": [h, w],
            "sides": "max(1, round(side * min(h / height, w / width)))",
            "resampling": "bicubic",
            "antialias": True,
            "reducing_gap": 3.0,
        },
        "position": "centred; an odd pixel goes to the bottom or the right",
        "fill": "the median of each channel over the first and last row and column, rounded down",
        "scale": 1 / 255,
        "normalisation": "none: it is part of the network",
    }


def _why(error: BaseException) -> str:
    """Return why an export failed, and what to do.

    The chain of PyTorch's errors prints the whole graph.
    """
    chain = [error]
    cause = error.__cause__ or error.__context__
    while cause is not None and cause not in chain:
        chain.append(cause)
        cause = cause.__cause__ or cause.__context__
    lines = (line_of_user_code(link) for link in reversed(chain))
    where = next((line for line in lines if line), "")
    for link in chain:
        if "DataDependent" in type(link).__name__ or "data-dependent" in str(link):
            at = f" ({where})" if where else ""
            return (
                f"it decides by the values of an image{at}, which no fixed graph can; use"
                " torch.where or a mask in its place"
            )
        operation = re.search(
            r"No ONNX function found for <?(?:OpOverload\(op=)?'?([\w.:]+)", str(link)
        )
        if operation:
            return f"ONNX has nothing for the operation {operation[1]}; put another in its place"
    text = (
        re.sub(r"\x1b\[[0-9;]*m", "", str(chain[-1])).strip().partition("\n")[0][:200]
        or type(chain[-1]).__name__
    )
    return (
        f"{text}{f', {where}' if where else ''}; PyTorch's torch.export must be able to follow it"
    )


class _Outputs(nn.Module):
    """Computes logits as `inference.logits` does, and probabilities, as operations in float32.

    One logit f becomes two, (0, f).

    Args:
        model: the network.
        temperature: divides the logits before the softmax.
    """

    def __init__(self, model: nn.Module, temperature: float):
        super().__init__()
        self.model, self.temperature = model, temperature

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        out: Tensor = unwrap_logits(self.model(images.clone()))
        if out.ndim == 1:
            out = out.unsqueeze(1)
        out = F.pad(out, (1, 0)) if out.shape[1] == 1 else out
        return out, (out / self.temperature).softmax(1)


@contextlib.contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Suppress the warnings of a package's loggers and all that is printed, for a block.

    PyTorch's exporter reports every package that it does not find, and prints pages about a graph
    that it cannot make.
    """
    loggers = [
        logging.getLogger(logger)
        for logger in (name, *logging.Logger.manager.loggerDict)
        if f"{logger}.".startswith(f"{name}.")
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
