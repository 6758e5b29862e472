"""SQLite files to which rows are added and never changed: the stores of dfal run and dfal label."""

from dfal.storage.ledger import Ledger
from dfal.storage.paths import real_path
from dfal.storage.tables import transaction

__all__ = ["Ledger", "real_path", "transaction"]
