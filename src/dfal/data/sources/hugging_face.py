"""Data sets of Hugging Face's datasets, as hf:NAME of the hub or hf:FOLDER."""

from pathlib import Path
from typing import Any

from dfal.data.sources.addresses import HUB
from dfal.data.sources.base import (
    IMAGE_COLUMNS,
    LABEL_COLUMNS,
    Blocks,
    Source,
    column,
    package,
    without_images,
)
from dfal.errors import DfalError, first_line

BLOCK_IMAGES = 256
"""Images that are read at a time."""


def recognises(data: Any) -> bool:
    """Return whether this is a name with hf: before it, or a data set of datasets."""
    if isinstance(data, str):
        return data.startswith(HUB)
    parts = list(data.values()) if isinstance(data, dict) else [data]
    return bool(parts) and all(
        hasattr(part, "features") and hasattr(part, "cast_column") for part in parts
    )


def open_source(data: Any) -> Source:
    """Open a data set; its parts train and test are pool and test set.

    Args:
        data: hf:NAME, hf:NAME:CONFIGURATION, hf:FOLDER, or what `datasets.load_dataset` returns.

    Raises:
        DfalError: where datasets is missing, the data set cannot be loaded, or has no images.
    """
    name = data if isinstance(data, str) else "the data set"
    loaded = _loaded(data) if isinstance(data, str) else data
    parts = dict(loaded) if isinstance(loaded, dict) else {"": loaded}
    if not all(hasattr(part, "__len__") for part in parts.values()):
        raise without_images(name, "it is streamed; load it without streaming=True")
    images = package("datasets", name, "hf")
    (first, *_) = parts.values()
    image = _image_column(first, name)
    label = column(list(first.features), LABEL_COLUMNS)
    undecoded = [
        part.cast_column(image, images.Image(decode=False)).with_format("arrow")
        for part in parts.values()
    ]
    places = [
        (part, start, min(start + BLOCK_IMAGES, len(part)))
        for part in undecoded
        for start in range(0, len(part), BLOCK_IMAGES)
    ]

    def read(number: int) -> Any:
        part, start, stop = places[number]
        return part[start:stop][image]

    blocks = Blocks([stop - start for _, start, stop in places], read)
    in_test = [split == "test" for split, part in parts.items() for _ in range(len(part))]
    return Source(
        name,
        len(blocks),
        lambda index: (blocks.image(index), None),
        labels=[value for part in parts.values() for value in part[label]] if label else None,
        classes=tuple(getattr(first.features[label], "names", ()) or ()) if label else (),
        in_test=in_test if any(in_test) and not all(in_test) else None,
        key=lambda: " ".join(getattr(part, "_fingerprint", "") for part in parts.values()),
    )


def _loaded(name: str) -> Any:
    datasets = package("datasets", name, "hf")
    place, _, configuration = name.removeprefix(HUB).partition(":")
    folder = Path(place)
    try:
        if (folder / "dataset_info.json").is_file() or (folder / "dataset_dict.json").is_file():
            return datasets.load_from_disk(str(folder))
        if not folder.is_dir() and place.startswith((".", "/", "~")):
            raise DfalError(f"there is no folder {place}: name one that is there")
        return datasets.load_dataset(place, configuration or None)
    except DfalError:
        raise
    except Exception as error:  # of the hub, the network, and of files of any kind
        raise DfalError(
            f"{name} cannot be loaded ({first_line(error)}): see that the name is right and the hub"
            " can be reached, or name a folder"
        ) from error


def _image_column(part: Any, name: str) -> str:
    kinds = {key: type(feature).__name__ for key, feature in part.features.items()}
    found = [key for key, kind in kinds.items() if kind == "Image"]
    chosen = column(found, IMAGE_COLUMNS) or (found[0] if len(found) == 1 else None)
    if chosen is None:
        raise without_images(name, f"no column is of images: {', '.join(kinds)}")
    return chosen
