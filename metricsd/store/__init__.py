"""The points, and how they are kept. It knows no text and no time."""

from metricsd.store.answer import Answer
from metricsd.store.columns import INT64, MAX_TIMESTAMP, MIN_TIMESTAMP, Columns
from metricsd.store.interface import STORED, OpenError, Receipt, Store, StoreError
from metricsd.store.memory import Memory
from metricsd.store.mirror import Mirror
from metricsd.store.put_all import put_all
from metricsd.store.saving import SavedSeries, save
from metricsd.store.sealed import seal, unseal
from metricsd.store.series import Series

__all__ = [
    "INT64", "MAX_TIMESTAMP", "MIN_TIMESTAMP", "STORED", "Answer", "Columns", "Memory", "Mirror",
    "OpenError", "Receipt", "SavedSeries", "Series", "Store", "StoreError", "buckets", "put_all",
    "save", "seal", "unseal",
]  # fmt: skip
