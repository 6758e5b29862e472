"""The latest model as ONNX. As safetensors it is saved next to the store anyway."""

from pathlib import Path

from dfal import models
from dfal.labelling.export.formats import ModelFormat, check_target
from dfal.models import SavedModel

ONNX_BEGIN = b"\x08"
"""First byte of the ONNX files that are written here: the field of the format's version."""


def write_onnx(model: SavedModel, path: Path) -> None:
    """Write the model as ONNX.

    Raises:
        DfalError: if the extra `onnx` is not installed, the path is no earlier export, or it
            cannot be written.
    """
    check_target(path, ONNX_BEGIN)
    models.save_onnx(model.network, model.card, path)


ONNX = ModelFormat(".onnx", write_onnx)
