"""Rows are computed once, whoever asks first and whatever ends the process that computes."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dfal.data.computed_rows import map_rows
from dfal.errors import DfalError

WHOLE = np.arange(60, dtype=np.float32).reshape(20, 3)


class Counted:
    """Computes rows in blocks of 4, and counts them; it ends at a row where one is given."""

    def __init__(self, ends_at: int = 100):
        self.computed: list[int] = []
        self.ends_at = ends_at

    def __call__(self, start: int) -> Iterator[NDArray[Any]]:
        for row in range(start, 20, 4):
            if row >= self.ends_at:
                raise KeyboardInterrupt
            self.computed.append(row)
            yield WHOLE[row : row + 4]


def test_is_computed_once_and_read_from_then_on(tmp_path: Path) -> None:
    counted, path = Counted(), tmp_path / "new" / "rows.npy"
    for _ in range(2):
        rows = map_rows(path, (20, 3), np.float32, counted)
        assert np.array_equal(rows, WHOLE)
    assert counted.computed == [0, 4, 8, 12, 16]
    assert sorted(file.name for file in path.parent.iterdir()) == ["rows.lock", "rows.npy"]


def test_goes_on_where_it_was_ended(tmp_path: Path) -> None:
    path, first, second = tmp_path / "rows.npy", Counted(ends_at=9), Counted()
    with pytest.raises(KeyboardInterrupt):
        map_rows(path, (20, 3), np.float32, first)
    assert not path.exists()
    with (tmp_path / "rows.part").open("ab") as part:
        part.write(b"half a row")  # as a killed process leaves it
    assert np.array_equal(map_rows(path, (20, 3), np.float32, second), WHOLE)
    assert (first.computed, second.computed) == ([0, 4, 8], [12, 16])


def test_rows_are_finished_from_all_of_them(tmp_path: Path) -> None:
    def finish(rows: NDArray[Any]) -> Any:
        mean = rows.mean(0)
        return lambda some: (some - mean)[:, :2].astype(np.float16)

    rows = map_rows(tmp_path / "rows.npy", (20, 3), np.float32, Counted(), finish)
    assert rows.dtype == np.float16
    assert np.allclose(rows, (WHOLE - WHOLE.mean(0))[:, :2])


SLOW = """
    import sys, time
    from pathlib import Path
    import numpy as np
    from dfal.data.computed_rows import map_rows

    def slow(start):
        for row in range(start, 20):
            time.sleep(0.05)
            print(row, flush=True)
            yield np.full((1, 3), row, np.float32)

    rows = map_rows(Path(sys.argv[1]), (20, 3), np.float32, slow)
    print("sum", int(rows.sum()), flush=True)
"""


def start(path: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(SLOW), str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_kill_9_loses_no_finished_block_and_others_go_on(tmp_path: Path) -> None:
    path = tmp_path / "rows.npy"
    first = start(path)
    assert first.stdout
    for line in first.stdout:
        if line == "7\n":
            break
    second = start(path)
    time.sleep(0.2)
    os.kill(first.pid, signal.SIGKILL)
    first.communicate()
    out, _ = second.communicate(timeout=60)
    computed = out.split("sum")[0].split()
    assert out.endswith(f"sum {3 * sum(range(20))}\n")
    assert int(computed[0]) >= 7, "the rows before are on the disk"
    assert computed[-1] == "19"


def test_two_at_the_same_time_compute_once(tmp_path: Path) -> None:
    both = [start(tmp_path / "rows.npy") for _ in range(2)]
    outs = [process.communicate(timeout=60) for process in both]
    assert [process.returncode for process in both] == [0, 0], outs
    assert sorted(len(out.split()) for out, _ in outs) == [2, 22]


def test_a_damaged_file_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "rows.npy"
    path.write_bytes(b"\x93NUMPY nothing")
    with pytest.raises(DfalError, match=r"cannot be read .*: delete it, and try again"):
        map_rows(path, (20, 3), np.float32, Counted())
    np.save(path, WHOLE[:5])
    with pytest.raises(DfalError, match="it has 5 rows, not 20"):
        map_rows(path, (20, 3), np.float32, Counted())


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DfalError, match="cannot be written"):
        map_rows(tmp_path / "file" / "rows.npy", (20, 3), np.float32, Counted())
