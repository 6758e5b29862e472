"""Rows that are computed once from a data set and kept in a file, which all processes map."""

import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from dfal.atomic import atomic_write
from dfal.data.datasets.download import writing
from dfal.data.image_array import CHUNK
from dfal.errors import DfalError, first_line

PATIENCE = 1.0
"""Seconds without the lock after which a process says what it waits for."""


def map_rows(
    path: Path,
    shape: tuple[int, ...],
    dtype: type[np.generic],
    compute: Callable[[int], Iterable[NDArray[Any]]],
    finish: Callable[[NDArray[Any]], Callable[[NDArray[Any]], NDArray[Any]]] | None = None,
) -> NDArray[Any]:
    """Map the rows of a file, after computing what is missing of it.

    One process computes, others wait for it. Rows are appended to a file next to it, so that a
    process that is killed loses no more than its last block; the file has its name only when it is
    whole.

    Args:
        path: the file, whose name says everything that its rows depend on.
        shape: of all computed rows, their number first.
        dtype: of the computed rows.
        compute: number of a row → blocks of rows from that one on.
        finish: all computed rows → the function that makes rows of the file from rows of them; by
            default they stay as they are.

    Raises:
        DfalError: where the disk is full or cannot be written, and where the file is damaged.
    """
    if not path.is_file():
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with _locked(path):
                if not path.is_file():
                    part = path.with_suffix(".part")
                    rows = _compute_rest(part, shape, dtype, compute)
                    _write(path, rows, finish(rows) if finish else lambda rows: rows)
                    del rows
                    part.unlink(missing_ok=True)
    try:
        mapped: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # changed bytes make a header fail in many ways
        raise _damaged(path, first_line(error)) from error
    if len(mapped) != shape[0]:
        raise _damaged(path, f"it has {len(mapped)} rows, not {shape[0]}")
    return mapped


def _damaged(path: Path, reason: str) -> DfalError:
    return DfalError(f"{path} cannot be read ({reason}): delete it, and try again")


def _locked(path: Path) -> Any:
    """Return the acquired lock of a file, which the system releases where its process dies."""
    lock = FileLock(path.with_suffix(".lock"))
    try:
        return lock.acquire(timeout=PATIENCE)
    except Timeout:
        sys.stderr.write(f"dfal: another process is writing {path}, wait\n")
    return lock.acquire()


def _compute_rest(
    part: Path,
    shape: tuple[int, ...],
    dtype: type[np.generic],
    compute: Callable[[int], Iterable[NDArray[Any]]],
) -> NDArray[Any]:
    """Append the missing rows to a file, and map all of them."""
    size = int(np.prod(shape[1:])) * np.dtype(dtype).itemsize
    with part.open("ab") as file:
        done = min(file.tell() // size, shape[0])
        file.truncate(done * size)
        if done < shape[0]:
            for block in compute(done):
                file.write(np.ascontiguousarray(block, dtype).data)
                file.flush()
                os.fsync(file.fileno())  # a power failure leaves whole blocks, no zeros
    rows: NDArray[Any] = np.memmap(part, dtype, "r", shape=shape)
    return rows


def _write(path: Path, rows: NDArray[Any], made: Callable[[NDArray[Any]], NDArray[Any]]) -> None:
    first = made(rows[:1])
    header = {
        "descr": np.lib.format.dtype_to_descr(first.dtype),
        "fortran_order": False,
        "shape": (len(rows), *first.shape[1:]),
    }
    with (
        atomic_write(path, "free some space, and try again") as whole,
        whole.open("wb") as out,
    ):
        np.lib.format.write_array_header_1_0(out, header)
        for start in range(0, len(rows), CHUNK):
            out.write(np.ascontiguousarray(made(rows[start : start + CHUNK])).data)
