"""Backbones in ONNX files, as onnx:FILE, run by onnxruntime."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from dfal.backbones.base import Backbone, Image, Recipe
from dfal.backbones.pretrained import (
    Normalised,
    imported,
    loading,
    pretrained_backbone,
    rebuilt,
    three,
)
from dfal.errors import DfalError

INSTALL = "pip install onnxruntime"
SIDE = 224
"""Height and width in pixels for a graph that takes any."""


class OnnxGraph(nn.Module):
    """The graph of an ONNX file. It runs on the CPU and has no gradients.

    The file's bytes are part of its state, so that they are saved with a model.

    Args:
        content: of the file, as numbers from 0 to 255.

    Raises:
        DfalError: for a graph without one input of images and an output of features.
    """

    onnx_content: Tensor

    def __init__(self, content: Tensor):
        super().__init__()
        self.register_buffer("onnx_content", content)
        self._session: Any = None
        inputs, outputs = self.session.get_inputs(), self.session.get_outputs()
        rows = [output.name for output in outputs if len(output.shape or ()) == 2]
        if len(inputs) != 1 or len(inputs[0].shape) != 4:
            raise DfalError("its graph must have one input, of images (n, c, h, w)")
        if len(outputs) > 1 and not rows:
            raise DfalError("its graph must have an output of features (n, d)")
        self.input, self.output = inputs[0].name, (rows or [outputs[0].name])[0]
        self.shape: list[int | str | None] = list(inputs[0].shape)
        self.numbers = np.float16 if "float16" in inputs[0].type else np.float32

    @property
    def session(self) -> Any:
        """Return onnxruntime's session, made at first use: it cannot be copied."""
        if self._session is None:
            runtime = imported("onnxruntime", "onnx", INSTALL)
            options = runtime.SessionOptions()
            options.intra_op_num_threads = torch.get_num_threads()
            options.log_severity_level = 3
            self._session = runtime.InferenceSession(
                self.onnx_content.cpu().numpy().tobytes(),
                options,
                providers=["CPUExecutionProvider"],
            )
        return self._session

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_session": None}

    def forward(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d"]:
        """Return the features of images as the graph takes them."""
        array = images.detach().cpu().numpy().astype(self.numbers)
        batch = self.shape[0]
        parts = np.split(array, len(array)) if batch == 1 else [array]
        found = [self.session.run([self.output], {self.input: part})[0] for part in parts]
        features = torch.from_numpy(np.concatenate(found).astype(np.float32))
        return features.flatten(1).to(images.device)


def load(argument: str, image: Image | None) -> Backbone:
    """Load the graph of an ONNX file.

    Its size is that of its input, its normalisation the lists `mean` and `std` of the file's
    metadata, for pixels in [0, 1]; without them it is given pixels in [0, 1].

    Args:
        argument: the file.
        image: what it is to take; None for its own.

    Raises:
        DfalError: where onnxruntime is missing, or the file cannot be used.
    """
    name, path = f"onnx:{argument}", Path(argument)
    imported("onnxruntime", name, INSTALL)
    if not path.is_file():
        raise DfalError(f"there is no file {argument}: name an ONNX file")
    with loading(name, "it must be one ONNX file, with its weights inside"):
        content = torch.frombuffer(bytearray(path.read_bytes()), dtype=torch.uint8)
        graph = OnnxGraph(content)
        metadata = graph.session.get_modelmeta().custom_metadata_map
        mean, std = (json.loads(metadata.get(key, "null")) for key in ("mean", "std"))
        body = Normalised(graph, three(mean, (0.0,)), three(std, (1.0,)), {})
    c, h, w = (side if isinstance(side, int) and side > 0 else None for side in graph.shape[1:])
    own = (c or 3, h or SIDE, w or SIDE)
    backbone = pretrained_backbone(name, body, image or own, f"the graph in {path.name}")

    def refuse() -> nn.Module:
        raise DfalError(f"the backbone {name} cannot be fine-tuned: an ONNX graph has no gradients")

    return Backbone(name, body, backbone.image, backbone.features, backbone.about, refuse)


def rebuild(argument: str, image: Image, recipe: Recipe, weights: dict[str, Tensor]) -> nn.Module:
    """Make the graph of the file that was saved with a model.

    Raises:
        DfalError: where onnxruntime is missing, or the graph is damaged.
        RuntimeError: for weights that do not fit.
    """
    content = weights.get("network.onnx_content")
    if content is None or content.dtype != torch.uint8 or content.ndim != 1:
        raise RuntimeError("there is no graph")
    with loading(f"onnx:{argument}", "get the model again"):
        graph = OnnxGraph(content)
    return rebuilt(graph, recipe, weights)
