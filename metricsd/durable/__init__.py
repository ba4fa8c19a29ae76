"""The store that is an SQLite file: what it has said `ok` to survives."""

from metricsd.durable.files import backup
from metricsd.durable.store import DurableStore
from metricsd.durable.tables import FileError

__all__ = ["DurableStore", "FileError", "backup"]
