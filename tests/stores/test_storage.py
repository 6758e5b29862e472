"""A transaction leaves everything or nothing, and the way free for the next."""

import contextlib
import sqlite3
from pathlib import Path

import pytest

import dfal
from dfal.errors import DfalError
from dfal.experiments.store import Store
from dfal.storage import transaction


@pytest.mark.skipif(
    not Path("/proc/self").exists(), reason="this machine has no folder in which nobody can write"
)
def test_a_folder_that_cannot_be_written_is_not_taken_for_another_writer() -> None:
    with pytest.raises(
        dfal.DfalError,
        match=r"/proc/s.db cannot be written or read \(.*\): name a store in a folder of yours",
    ):
        Store("/proc/s.db", write=True)


@pytest.mark.parametrize("why", [sqlite3.IntegrityError, KeyboardInterrupt, None])
def test_after_a_transaction_that_failed_nothing_is_left_and_the_next_begins(
    why: type[BaseException] | None,
) -> None:
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
        db.execute("CREATE TABLE numbers (number INTEGER UNIQUE)")
        with contextlib.suppress(sqlite3.IntegrityError, KeyboardInterrupt), transaction(db):
            db.execute("INSERT INTO numbers VALUES (1)")
            if why is KeyboardInterrupt:
                raise KeyboardInterrupt
            db.execute("INSERT INTO numbers VALUES (?)", (1 if why else 2,))
        with transaction(db):
            db.execute("INSERT INTO numbers VALUES (3)")
        assert [number for (number,) in db.execute("SELECT number FROM numbers")] == (
            [3] if why else [1, 2, 3]
        )
        assert not db.in_transaction


def test_what_is_wrong_with_a_damaged_page_is_said(tmp_path: Path) -> None:
    with Store(tmp_path / "s.db", write=True) as store:
        store.add_run({f"{number:04}": "{}" for number in range(2000)}, {})
    content = bytearray((tmp_path / "s.db").read_bytes())
    content[8192:8200] = b"garbage!"
    (tmp_path / "s.db").write_bytes(content)
    with pytest.raises(DfalError, match=r"s\.db is damaged \(.*[Pp]age 3.*\): restore a copy"):
        Store(tmp_path / "s.db")
