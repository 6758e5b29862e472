"""Parquet files with the bytes of image files, as the Hugging Face hub and others have them."""

import json
from typing import Any

from dfal.data.sources.addresses import File, files, key_of
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


def recognises(data: Any) -> bool:
    """Return whether this is the name of Parquet files."""
    return isinstance(data, str) and data.endswith(".parquet")


def open_source(data: str) -> Source:
    """Open Parquet files, whose row groups are read when an image of them is wanted.

    Raises:
        DfalError: where pyarrow is missing, or a file has no column of images.
    """
    parquet = package("pyarrow.parquet", data, "parquet")
    found = files(data, ".parquet")
    opened = [_opened(parquet, file) for file in found]
    schema = opened[0].schema_arrow
    image, label = _image_column(schema, data), column(schema.names, LABEL_COLUMNS)
    for file, read in zip(found, opened, strict=True):
        if {image, label} - {None} - set(read.schema_arrow.names):
            raise DfalError(
                f"{file.path} has other columns than {found[0].path}: name files of one data set"
            )
    labels = None
    if label is not None:
        labels = [value for file in opened for value in file.read([label])[label].to_pylist()]
    places = [(file, group) for file in opened for group in range(file.metadata.num_row_groups)]

    def read_group(number: int) -> Any:
        file, group = places[number]
        return file.read_row_group(group, [image])[image]

    images = Blocks([file.metadata.row_group(group).num_rows for file, group in places], read_group)
    in_test = [
        is_test
        for file, read in zip(found, opened, strict=True)
        for is_test in [_is_test(file)] * read.metadata.num_rows
    ]
    return Source(
        data,
        len(images),
        lambda index: (images.image(index), None),
        labels=labels,
        classes=_class_names(schema, label),
        in_test=in_test if any(in_test) and not all(in_test) else None,
        key=lambda: key_of(found),
    )


def _opened(parquet: Any, file: File) -> Any:
    try:
        return parquet.ParquetFile(file.open())
    except DfalError:
        raise
    except Exception as error:  # pyarrow's errors are of many kinds
        raise DfalError(
            f"{file.path} cannot be read as Parquet ({first_line(error)}): write it again"
        ) from error


def _image_column(schema: Any, name: str) -> str:
    """Return the column with the content of image files.

    Raises:
        DfalError: where there is none.
    """
    kinds = {field.name: str(field.type) for field in schema}
    found = [
        column
        for column, kind in kinds.items()
        if kind in {"binary", "large_binary"} or ("struct" in kind and "bytes: " in kind)
    ]
    chosen = column(found, IMAGE_COLUMNS) or (found[0] if len(found) == 1 else None)
    if chosen is None:
        raise without_images(name, f"no column has the bytes of image files: {', '.join(kinds)}")
    return chosen


def _class_names(schema: Any, label: str | None) -> tuple[str, ...]:
    """Return the names of classes that `datasets` wrote into the file; none where it did not."""
    try:
        written = json.loads((schema.metadata or {})[b"huggingface"])
        return tuple(written["info"]["features"][label]["names"])
    except (KeyError, TypeError, ValueError):
        return ()


def _is_test(file: File) -> bool:
    return file.path.rpartition("/")[2].startswith("test")
