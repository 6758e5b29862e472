"""A model to take home: one safetensors file with its card inside, the same as ONNX, and what it
says of other images."""

from dfal.models.card import ModelCard
from dfal.models.onnx import save_onnx
from dfal.models.predictions import Prediction, label
from dfal.models.weights import SavedModel, load, save

__all__ = ["ModelCard", "Prediction", "SavedModel", "label", "load", "save", "save_onnx"]
