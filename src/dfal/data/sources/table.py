"""A table of paths and labels: FILE.csv."""

from pathlib import Path
from typing import Any

from dfal.data.sources.addresses import (
    File,
    file_system,
    files,
    is_address,
    key_of,
    reading,
)
from dfal.data.sources.base import Source
from dfal.data.table_files import read_table
from dfal.errors import DfalError

TEST_NAMES = ("test", "testing")
"""What the column `split` says of images of the test set."""


def recognises(data: Any) -> bool:
    """Return whether this is the name of a table."""
    return isinstance(data, str) and data.casefold().endswith((".csv", ".tsv"))


def open_source(data: str) -> Source:
    """Open the images of a table. Paths may be relative to its folder, absolute, or addresses.

    Raises:
        DfalError: for a table that cannot be read, and an image that is not there.
    """
    table_file, *more = files(data)
    if more:
        raise DfalError(f"{data} stands for {1 + len(more)} tables: give one")
    table = read_table(Path(table_file.path), ("path",), "the table", table_file.read())
    rows = [row for row in table.rows if row["path"].strip()]
    root = data.rpartition("/")[0] if is_address(data) else str(Path(data).absolute().parent)
    images = [_file(root, row["path"].strip()) for row in rows]
    labelled = "label" in table.columns
    splits = [row.get("split", "").strip().casefold() in TEST_NAMES for row in rows]
    return Source(
        data,
        len(rows),
        lambda index: (images[index].read(), None),
        labels=[row["label"].strip() for row in rows] if labelled else None,
        in_test=splits if any(splits) else None,
        key=lambda: key_of([table_file, *images]),
        path=lambda index: rows[index]["path"].strip(),
    )


def _file(root: str, path: str) -> File:
    written = path.replace("\\", "/")
    address = written if is_address(path) or written.startswith("/") else f"{root}/{written}"
    if not is_address(address):
        return File(None, address)
    with reading(address):
        system, inside = file_system(address)
    return File(system, inside)
