"""Save and load a trained model, export it as ONNX, and predict image files with it."""

from typing import TYPE_CHECKING

from dfal.lazy import lazy_names

if TYPE_CHECKING:
    from dfal.models.card import ModelCard
    from dfal.models.onnx import save_onnx
    from dfal.models.predictions import Prediction, label
    from dfal.models.weights import SavedModel, load, save
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "dfal.models.card": "ModelCard",
            "dfal.models.onnx": "save_onnx",
            "dfal.models.predictions": "Prediction label",
            "dfal.models.weights": "SavedModel load save",
        },
    )

__all__ = ["ModelCard", "Prediction", "SavedModel", "label", "load", "save", "save_onnx"]
