"""The ways in for images of your own, in the order in which they are tried."""

from dataclasses import dataclass
from typing import Any

from dfal.registry import Entry, Registry


@dataclass(frozen=True)
class Form(Entry):
    """Say where a way in is, and which form its names have.

    Attributes:
        form: of the names that it takes.
    """

    form: str


class Sources(Registry[Any]):
    """Ways in by their names; each is a module with `recognises(data)` and `open_source(data)`."""

    def form(self, name: str) -> str:
        """Return the form of the names that a way in takes; empty where it takes objects only."""
        entry = self.entry(name)
        return entry.form if isinstance(entry, Form) else ""

    @property
    def forms(self) -> str:
        """Return the forms of all names, with commas."""
        return ", ".join(form for name in self if (form := self.form(name)))


SOURCES = Sources(
    "source of images",
    {
        "function": Form(
            "dfal.data.sources.own_function",
            "your code, called without arguments, which returns anything that `Images.of` takes",
            "package.module:function",
        ),
        "hugging-face": Form(
            "dfal.data.sources.hugging_face",
            "a data set of the Hugging Face hub, or a saved one; its parts train and test are kept",
            "hf:NAME, hf:FOLDER",
        ),
        "array": Form(
            "dfal.data.sources.arrays",
            "an array of images, memory-mapped, with labels in FILE.labels.npy",
            "FILE.npy",
        ),
        "table": Form(
            "dfal.data.sources.table",
            "a table with the columns path and label, and split where some are for testing",
            "FILE.csv",
        ),
        "parquet": Form(
            "dfal.data.sources.parquet",
            "the content of image files in a column, as on the Hugging Face hub",
            "FILE.parquet",
        ),
        "webdataset": Form(
            "dfal.data.sources.webdataset",
            "shards of WebDataset; {000..009} and * stand for several",
            "FILE.tar",
        ),
        "folder": Form(
            "dfal.data.sources.folder",
            "images in sub-folders, one for each class, or in train and test with such sub-folders",
            "FOLDER, FILE.zip",
        ),
        "torch": Form(
            "dfal.data.sources.torch_dataset",
            "a data set of PyTorch or torchvision, or a list, of (image, label) or images",
            "",
        ),
    },
)
"""Every way in by its name, in the order in which they are tried."""
