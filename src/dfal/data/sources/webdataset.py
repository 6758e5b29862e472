"""Shards of WebDataset: tar archives in which files of one name are one sample."""

import json
import posixpath
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from dfal.data.sources.addresses import File, files, key_of
from dfal.data.sources.base import LABEL_COLUMNS, Source, column, without_images
from dfal.errors import DfalError, first_line

IMAGES = ("jpg", "jpeg", "png", "webp", "gif", "tif", "tiff", "ppm")
"""Endings of the image of a sample."""
TEXTS = ("cls", "json", "txt")
"""Endings of what may have its label, the first that is there."""


@dataclass
class _Sample:
    """Where the files of a sample lie: ending → (shard, offset, size)."""

    key: str
    places: dict[str, tuple[int, int, int]] = field(default_factory=dict)


def recognises(data: Any) -> bool:
    """Return whether this is the name of shards."""
    return isinstance(data, str) and data.endswith((".tar", ".tar.gz", ".tgz"))


def open_source(data: str) -> Source:
    """Open shards. Their headers are read once; images are then read at their offsets.

    The label is a number or name in the sample's `.cls`, `.json` (key label) or `.txt`; where no
    sample has one of these, it is the name of the folder in the archive.

    Raises:
        DfalError: for a compressed or damaged archive, and one without images.
    """
    if not data.endswith(".tar"):
        raise DfalError(
            f"{data} is compressed, and images in it cannot be read by number: unpack it, or write"
            " it as .tar"
        )
    shards = _Shards(files(data))
    samples = [sample for sample in shards.samples if _image_ending(sample)]
    if not samples:
        raise without_images(data, f"no sample has a file .{', .'.join(IMAGES[:4])}")

    def item(index: int) -> tuple[bytes, None]:
        sample = samples[index]
        return shards.read(sample.places[_image_ending(sample)]), None

    return Source(
        data,
        len(samples),
        item,
        labels=_labels(samples, shards),
        key=lambda: key_of(shards.files),
        path=lambda index: samples[index].key,
    )


class _Shards:
    """Open archives, read at offsets by one thread at a time."""

    def __init__(self, shards: list[File]):
        self.files = shards
        self._opened = [file.open() for file in shards]
        self._locks = [threading.Lock() for _ in shards]
        self.samples = [sample for number in range(len(shards)) for sample in self._index(number)]

    def _index(self, number: int) -> Iterator[_Sample]:
        samples: dict[str, _Sample] = {}
        try:
            with tarfile.open(fileobj=self._opened[number], mode="r:") as archive:
                for member in archive:
                    folder, name = posixpath.split(member.name)
                    if not member.isfile() or name.startswith("."):
                        continue
                    stem, _, ending = name.partition(".")
                    key = posixpath.join(folder, stem)
                    sample = samples.setdefault(key, _Sample(key))
                    sample.places[ending.casefold()] = (number, member.offset_data, member.size)
        except (tarfile.TarError, OSError, EOFError) as error:
            raise DfalError(
                f"{self.files[number].path} cannot be read as tar ({first_line(error)}): write it"
                " again"
            ) from error
        yield from samples.values()

    def read(self, place: tuple[int, int, int]) -> bytes:
        """Return the bytes of a file."""
        number, offset, size = place
        with self._locks[number]:
            self._opened[number].seek(offset)
            content: bytes = self._opened[number].read(size)
        if len(content) < size:
            raise DfalError(f"{self.files[number].path} ends before its last file: write it again")
        return content


def _image_ending(sample: _Sample) -> str:
    return next((ending for ending in IMAGES if ending in sample.places), "")


def _labels(samples: list[_Sample], shards: _Shards) -> list[Any] | None:
    ending = next(
        (text for text in TEXTS if all(text in sample.places for sample in samples)), None
    )
    if ending is None:
        folders = [posixpath.basename(posixpath.dirname(sample.key)) for sample in samples]
        return folders if all(folders) and len(set(folders)) > 1 else None
    texts = [
        shards.read(sample.places[ending]).decode("utf-8", "replace").strip() for sample in samples
    ]
    if ending != "json":
        return texts
    values = [json.loads(text) for text in texts]
    key = column(list(values[0]), LABEL_COLUMNS) if isinstance(values[0], dict) else None
    return None if key is None else [value.get(key) for value in values]
