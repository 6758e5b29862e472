"""Define the tables of a labelling store. Rows are added, never changed.

Whatever is true now follows from the rows in their order (`dfal.labelling.store.state`): a
correction is a row, taking an answer back is a row, and nothing is lost. Several processes write:
the page, the trainer, a notebook. Each reads the rows that are new before it adds its own, in one
transaction.
"""

import os
from contextlib import suppress
from types import MappingProxyType

import filelock

from dfal.errors import DfalError
from dfal.labelling.settings import Settings
from dfal.storage import Ledger

__all__ = ["SCHEMA", "SINCE_2", "SINCE_3", "SINCE_4", "LabelStore", "Settings"]

SCHEMA = """
CREATE TABLE settings (number INTEGER PRIMARY KEY, at REAL NOT NULL, json TEXT NOT NULL) STRICT;
CREATE TABLE classes (class INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, person TEXT NOT NULL, at REAL NOT NULL) STRICT;
CREATE TABLE images (
  image INTEGER PRIMARY KEY, path BLOB NOT NULL UNIQUE, known INTEGER REFERENCES classes) STRICT;
CREATE TABLE unreadable (
  number INTEGER PRIMARY KEY, image INTEGER NOT NULL UNIQUE REFERENCES images, reason TEXT NOT NULL, at REAL NOT NULL) STRICT;
CREATE TABLE models (
  model INTEGER PRIMARY KEY, at REAL NOT NULL, heard INTEGER NOT NULL, annotations INTEGER NOT NULL,
  labelled_data INTEGER NOT NULL, classes INTEGER NOT NULL, seconds REAL NOT NULL,
  watched BLOB NOT NULL, seen BLOB NOT NULL) STRICT;
CREATE TABLE queue (
  model INTEGER NOT NULL REFERENCES models, position INTEGER NOT NULL, image INTEGER NOT NULL REFERENCES images,
  score REAL, seen INTEGER NOT NULL, other INTEGER NOT NULL, twin_seen INTEGER, twin BLOB,
  PRIMARY KEY (model, position)) STRICT, WITHOUT ROWID;
CREATE TABLE looks (
  look INTEGER PRIMARY KEY, model INTEGER NOT NULL REFERENCES models, image INTEGER NOT NULL REFERENCES images,
  seen INTEGER NOT NULL, sure REAL NOT NULL, distance REAL) STRICT;
CREATE TABLE questions (
  question INTEGER PRIMARY KEY, image INTEGER NOT NULL REFERENCES images, kind TEXT NOT NULL, model INTEGER REFERENCES models,
  position INTEGER, person TEXT NOT NULL, holder TEXT NOT NULL, at REAL NOT NULL, until REAL NOT NULL) STRICT;
CREATE TABLE returned (number INTEGER PRIMARY KEY, question INTEGER NOT NULL REFERENCES questions, at REAL NOT NULL) STRICT;
CREATE TABLE answers (
  answer INTEGER PRIMARY KEY, kind TEXT NOT NULL, question INTEGER REFERENCES questions, undone INTEGER REFERENCES answers,
  image INTEGER NOT NULL REFERENCES images, label INTEGER NOT NULL, person TEXT NOT NULL, at REAL NOT NULL,
  seconds REAL) STRICT;
CREATE UNIQUE INDEX answered_once ON answers (question) WHERE question IS NOT NULL;
CREATE INDEX answers_of_image ON answers (image);
CREATE INDEX taken_back ON answers (undone) WHERE undone IS NOT NULL;
CREATE INDEX looks_at_image ON looks (image);
CREATE TABLE flags (
  flag INTEGER PRIMARY KEY, image INTEGER NOT NULL REFERENCES images, raised INTEGER NOT NULL, note TEXT NOT NULL,
  person TEXT NOT NULL, at REAL NOT NULL) STRICT;
CREATE TABLE troubles (trouble INTEGER PRIMARY KEY, text TEXT NOT NULL, at REAL NOT NULL) STRICT;
"""
SINCE_2 = (
    """CREATE TABLE renamed (
  number INTEGER PRIMARY KEY, class INTEGER NOT NULL REFERENCES classes, name TEXT NOT NULL, person
  TEXT NOT NULL, at REAL NOT NULL) STRICT""",
    """CREATE TABLE known (
  number INTEGER PRIMARY KEY, image INTEGER NOT NULL REFERENCES images, class INTEGER NOT NULL
  REFERENCES classes, at REAL NOT NULL) STRICT""",
)
"""Classes that are called otherwise now, and labels that came from the folder or a CSV after their
images."""
SINCE_3 = (
    """CREATE TABLE set_aside (
  number INTEGER PRIMARY KEY, image INTEGER NOT NULL REFERENCES images, reason TEXT NOT NULL, at
  REAL NOT NULL) STRICT""",
)
"""Images that cannot be read, after those of the table `unreadable`; without a reason where one can
be read after all."""

SINCE_4 = (
    """CREATE TABLE learners (
  number INTEGER PRIMARY KEY, backbone TEXT NOT NULL, why TEXT NOT NULL, model INTEGER NOT NULL, at
  REAL NOT NULL) STRICT""",
    """CREATE TABLE coverage (
  number INTEGER PRIMARY KEY, ranking INTEGER NOT NULL, image INTEGER NOT NULL REFERENCES images)
  STRICT""",
)
"""What networks learn from and why, from one network on; and the images to query before there is a
network: those of the latest ranking, in its order."""


class LabelStore(Ledger):
    """An open store of `dfal label`."""

    application = 0x4446414D
    version = 4
    schema = SCHEMA + ";".join((*SINCE_2, *SINCE_3, *SINCE_4, ""))
    migrations = MappingProxyType({1: SINCE_2, 2: SINCE_3, 3: SINCE_4})
    maker = "dfal label"
    when_full = "answer again; every answer that was accepted is safe"
    shared = True

    def claim_page(self, url: str) -> None:
        """Make this the only page over this store, at this address.

        The address is written next to the store for those who come later.

        Raises:
            DfalError: where another process has a page open.
        """
        beside = self.path.with_name(f".{self.path.name}.url")
        try:
            self._lock.acquire()
        except filelock.Timeout:
            try:
                where = f"it at {beside.read_text()}"
            except (OSError, UnicodeDecodeError):
                where = "that one"
            raise DfalError(
                f"another `dfal label` has a page open over {self.path}: stop it, or use {where}"
            ) from None
        with suppress(OSError):
            beside.unlink(missing_ok=True)
            with os.fdopen(
                os.open(beside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w"
            ) as file:  # it may hold a token
                file.write(url)
