"""Deletion: the one thing that is not only looked at here.

Owns what such a request must be like, and how it goes on beside the service.
"""

import json
from typing import Callable

from metricsd.graphite import matching
from metricsd.http.messages import HttpError, Reply, Request, Work
from metricsd.http.slices import sliced
from metricsd.store import Store

# Keys that are dropped before others have their turn: at 2 us each, half a millisecond.
KEYS_A_STEP = 256

# The header that it takes. No page of somebody else can make a browser send it: it would ask this
# server first (CORS), which does not say yes.
HEADER, VALUE = "x-metricsd", "delete"


class Deletion:
    """Drops series by a pattern."""

    def __init__(self, store: Store, forget: Callable[[str], None]) -> None:
        """``forget`` is called for each key that is gone."""
        self._store = store
        self._forget = forget

    def delete(self, request: Request) -> Work:
        """Drop what ``query`` means, once that is safe; a put that comes meanwhile may stay."""
        if request.headers.get(HEADER, "").lower() != VALUE:
            raise HttpError(403, "a deletion takes the header X-Metricsd: delete")
        queries = request.parameters().get("query", [])
        if len(queries) != 1 or not queries[0]:
            raise HttpError(400, "one query says what is to be deleted, such as old.*.cpu")
        keys = yield from sliced(matching(self._store, queries[0]))
        for at in range(0, len(keys), KEYS_A_STEP):
            some = keys[at : at + KEYS_A_STEP]
            receipt = self._store.drop(some)
            yield b"" if receipt.settled else receipt
            if receipt.refusal is not None:
                raise receipt.refusal
            for key in some:
                self._forget(key)
        return Reply(200, "application/json", json.dumps({"deleted": len(keys)}).encode())
