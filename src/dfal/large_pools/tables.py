"""Tables of images: what to label, and what was selected before."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64

from dfal.atomic import atomic_write
from dfal.data.sources.base import package
from dfal.errors import DfalError, first_line
from dfal.large_pools.selecting import Selected
from dfal.spreadsheet import row_writer

COLUMNS = ("rank", "index", "path", "score")


def is_parquet(path: Path) -> bool:
    """Return whether a file is named as Parquet."""
    return path.suffix.lower() == ".parquet"


def write(selected: Selected, out: Path) -> None:
    """Write a table as CSV, or as Parquet where the file is named so.

    Raises:
        DfalError: where it cannot be written.
    """
    ranks = list(range(1, len(selected.indices) + 1))
    columns = (ranks, selected.indices, selected.paths, selected.scores)
    with atomic_write(out, "name another with --out") as part:
        if is_parquet(out):
            arrow = package("pyarrow", str(out), "parquet")
            parquet = package("pyarrow.parquet", str(out), "parquet")
            parquet.write_table(arrow.table(dict(zip(COLUMNS, columns, strict=True))), part)
            return
        with part.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
            write_row = row_writer(file)
            write_row(COLUMNS)
            for row in zip(*columns, strict=True):
                write_row(row)


def read_indices(paths: tuple[Path, ...], count: int) -> Int64[np.ndarray, "n"]:
    """Return the numbers in the column `index` of some tables, ascending.

    Args:
        paths: of CSV or Parquet files.
        count: how many images the pool has.

    Raises:
        DfalError: for a table that cannot be read or has no such column, and a number outside the
            pool.
    """
    found: set[int] = set()
    for path in paths:
        try:
            values = _column(path)
            found.update(int(value) for value in values)
        except DfalError:
            raise
        except Exception as error:  # changed bytes make a table fail in many ways
            raise DfalError(
                f"{path} has no column index with numbers of images ({first_line(error)}): give a"
                " table of dfal select"
            ) from error
    if found and not 0 <= min(found) <= max(found) < count:
        wrong = next(index for index in sorted(found) if not 0 <= index < count)
        raise DfalError(
            f"--exclude names image {wrong}, but the pool has {count} images: give tables of this"
            " pool"
        )
    return np.array(sorted(found), np.int64)


def _column(path: Path) -> list[Any]:
    if not path.is_file():
        raise DfalError(f"there is no table {path}: name one that is there")
    if is_parquet(path):
        parquet = package("pyarrow.parquet", str(path), "parquet")
        column: list[Any] = parquet.read_table(path, columns=["index"])["index"].to_pylist()
        return column
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        return [row["index"] for row in csv.DictReader(file)]
