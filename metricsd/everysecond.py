"""Syncing every second, beside the loop: no reply waits for the disk.

Owns when a sync begins, and looks how it ended. Does not know what is written.
"""

import logging
from concurrent.futures import Future
from typing import Callable, Optional, Tuple

from metricsd.background import Background
from metricsd.journal import Journal, Unsynced
from metricsd.reactor import Reactor

logger = logging.getLogger("metricsd")

# A sync begins so many seconds after something was written, so that with the time that it takes
# hardly more than the last second can be lost.
SYNC_PAUSE = 0.9

# Look so often, in seconds, whether it is done.
SYNC_LOOK = 0.05


class EverySecond:
    """Syncs a journal, in the background, while there is something to sync."""

    def __init__(
        self,
        journal: Journal,
        reactor: Reactor,
        background: Background,
        on_failure: Callable[[], None],
    ) -> None:
        self._journal = journal
        self._reactor = reactor
        self._background = background
        self._on_failure = on_failure
        self._running: Optional[Tuple[Unsynced, Future[None]]] = None
        self._busy = False  # a timer is set

    def written(self) -> None:
        """There is something to sync."""
        if not self._busy:
            self._busy = True
            self._reactor.call_later(SYNC_PAUSE, self._sync)

    def _sync(self) -> None:
        unsynced = self._journal.take_unsynced()
        if unsynced is None:
            self._busy = False
            return
        self._running = unsynced, self._background.submit(unsynced.sync)
        self._reactor.call_later(SYNC_LOOK, self._look)

    def _look(self) -> None:
        assert self._running is not None
        unsynced, outcome = self._running
        if not outcome.done():
            self._reactor.call_later(SYNC_LOOK, self._look)
            return
        self._running = None
        error = outcome.exception()
        if error is None:
            unsynced.done()
        elif isinstance(error, OSError):
            logger.error("journal: cannot sync: %s; puts are refused until it is rewritten", error)
            self._journal.distrust(error)
            self._on_failure()
        else:
            raise error
        self._reactor.call_later(SYNC_PAUSE, self._sync)
