"""Export the labels of a store, or its model, in one of the registered formats."""

from typing import TYPE_CHECKING

from dfal.lazy import lazy_names
from dfal.registry import Entry, Registry

if TYPE_CHECKING:
    from dfal.labelling.export.formats import LabelFormat, ModelFormat
    from dfal.labelling.export.rows import Label, labels
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "dfal.labelling.export.formats": "LabelFormat ModelFormat",
            "dfal.labelling.export.rows": "Label labels",
        },
    )

__all__ = ["FORMATS", "Label", "LabelFormat", "ModelFormat", "labels"]

FORMATS: "Registry[LabelFormat | ModelFormat]" = Registry(
    "export format",
    {
        "csv": Entry(f"{__name__}.csv_table:CSV", "a table as CSV"),
        "parquet": Entry(f"{__name__}.parquet:PARQUET", "a table as Parquet, which keeps types"),
        "folders": Entry(f"{__name__}.folders:FOLDERS", "a folder of images for each class"),
        "hugging-face": Entry(
            f"{__name__}.folders:HUGGING_FACE", "a folder that Hugging Face datasets can load"
        ),
        "onnx": Entry(f"{__name__}.model_files:ONNX", "the latest model as ONNX"),
    },
)
"""The export formats, by the name that `dfal export --format` takes."""
