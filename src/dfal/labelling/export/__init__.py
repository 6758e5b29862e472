"""Export the labels of a store, or its model, in one of the registered formats."""

from dfal.labelling.export.formats import FORMATS, LabelFormat, ModelFormat
from dfal.labelling.export.rows import Label, labels

__all__ = ["FORMATS", "Label", "LabelFormat", "ModelFormat", "labels"]
