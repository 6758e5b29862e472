"""Tables, indices and triggers of a store: made, brought up to date, and compared."""

import contextlib
import functools
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar


class Schema:
    """The tables of a kind of store, as its class declares them."""

    application: ClassVar[int]
    """The number in the file's header that says what wrote it."""
    version: ClassVar[int] = 1
    """Of the tables."""
    schema: ClassVar[str]
    """The statements that make the tables."""
    migrations: ClassVar[Mapping[int, Sequence[str]]] = {}
    """By version, the statements that make a store of it one of the next: a writer brings it up to
    date when it opens it."""


@contextlib.contextmanager
def transaction(db: sqlite3.Connection, kind: str = "IMMEDIATE") -> Iterator[sqlite3.Connection]:
    """Run a block in a transaction: all that is done inside is done, or none of it."""
    db.execute(f"BEGIN {kind}")
    try:
        yield db
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:  # a full disk may have ended it already
            db.execute("ROLLBACK")
        raise


def create_tables(db: sqlite3.Connection, kind: type[Schema]) -> None:
    """Make the tables of a new store."""
    db.executescript(f"BEGIN; {kind.schema}")  # one transaction: to wait for the disk once
    forbid_changes(db)
    db.execute(f"PRAGMA application_id = {kind.application}")
    db.execute(f"PRAGMA user_version = {kind.version}")
    db.execute("COMMIT")


def migrate(db: sqlite3.Connection, kind: type[Schema]) -> None:
    """Bring the tables of an older version up to date."""
    if db.execute("PRAGMA user_version").fetchone() == (kind.version,):
        return
    with transaction(db):  # where several open an old store at once, one of them renews it
        (version,) = db.execute("PRAGMA user_version").fetchone()
        _run_migrations(db, kind, version)
        db.execute(f"PRAGMA user_version = {kind.version}")


def _run_migrations(db: sqlite3.Connection, kind: type[Schema], version: int) -> None:
    for number in range(version, kind.version):
        for statement in kind.migrations[number]:
            db.execute(statement)
    forbid_changes(db)


def forbid_changes(db: sqlite3.Connection) -> None:
    """Let no row of any table be changed or deleted from now on."""
    for table in table_names(db):
        for change in ("UPDATE", "DELETE"):
            stop = "SELECT RAISE(ABORT, 'rows are added, never changed')"
            db.execute(
                f"CREATE TRIGGER IF NOT EXISTS {table}_{change} BEFORE {change} ON {table}"
                f" BEGIN {stop}; END"
            )


def schema_objects(db: sqlite3.Connection) -> frozenset[tuple[str, str, str]]:
    """Return tables, indices, views and triggers: kind, name, and statement without its blanks.

    Tables of statistics, which SQLite makes itself, are left out.
    """
    objects = db.execute(
        "SELECT type, name, sql FROM sqlite_master WHERE NOT (type = 'table' AND name GLOB"
        " 'sqlite_stat[14]')"
    )
    return frozenset((kind, name, "".join((sql or "").split())) for kind, name, sql in objects)


@functools.cache
def expected_objects(kind: type[Schema], version: int) -> frozenset[tuple[str, str, str]]:
    """Return the `schema_objects` of a new store of a version.

    They are those of the newest version without what later versions added.
    """
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
        create_tables(db, kind)
        newest = schema_objects(db)
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
        _run_migrations(db, kind, version)
        return newest - schema_objects(db)


def table_names(db: sqlite3.Connection) -> list[str]:
    """Return the names of all tables that are not SQLite's own."""
    rows = db.execute(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT GLOB 'sqlite_*'"
    )
    return [name for (name,) in rows.fetchall()]


def has_more_rows(db: sqlite3.Connection, other: sqlite3.Connection, table: str) -> bool:
    """Return whether a table has a row that it does not have in the other file."""
    names = [
        name
        for (name,) in db.execute("SELECT name FROM pragma_table_info(?) ORDER BY cid", (table,))
    ]
    same = " AND ".join(f"{name} IS ?" for name in names)
    return any(
        other.execute(f"SELECT 1 FROM {table} WHERE {same}", row).fetchone() is None
        for row in db.execute(f"SELECT {', '.join(names)} FROM {table}")
    )
