"""Points without end: a store takes some of them at a time, this hands it all.

For when nobody waits for their turn, as while a store is loaded.
"""

from typing import List

from metricsd.store.interface import Store


def put_all(store: Store, keys: List[str], values: List[float], timestamps: List[int]) -> None:
    """Put all of these points, however long it takes; there must be room for them."""
    while keys:
        taken, _ = store.put_many(keys, values, timestamps)
        keys, values, timestamps = keys[taken:], values[taken:], timestamps[taken:]
