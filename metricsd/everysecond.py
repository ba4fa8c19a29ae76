"""Syncing every second, beside the loop: no reply waits for the disk.

Owns when a sync begins, in a thread, and looks how it ended. Does not know what is written.
"""

import logging
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Callable, Optional, Tuple

from metricsd.journal import Journal, Unsynced
from metricsd.reactor import Reactor

logger = logging.getLogger("metricsd")

# A sync begins so many seconds after something was written, so that with the time that it takes
# hardly more than the last second can be lost.
SYNC_PAUSE = 0.9


class EverySecond:
    """Syncs a journal, in a thread, while there is something to sync."""

    def __init__(
        self,
        journal: Journal,
        reactor: Reactor,
        thread: ThreadPoolExecutor,
        on_failure: Callable[[], None],
    ) -> None:
        """The executor has a single thread."""
        self._journal = journal
        self._reactor = reactor
        self._on_failure = on_failure
        self._thread = thread
        self._running: Optional[Tuple[Unsynced, Future[None]]] = None
        self._set = False  # a timer

    def written(self) -> None:
        """There is something to sync."""
        if not self._set:
            self._set = True
            self._reactor.call_later(SYNC_PAUSE, self._go_on)

    def _go_on(self) -> None:
        self._set = False
        if self._running is not None and not self._running[1].done():
            self.written()  # a slow disk: look again
            return
        self._finish()
        unsynced = self._journal.unsynced()
        if unsynced is not None:
            self._running = unsynced, self._thread.submit(unsynced.sync)
            self.written()  # to see how it ended

    def _finish(self) -> None:
        """See how the last sync ended."""
        if self._running is None:
            return
        unsynced, result = self._running
        self._running = None
        error = result.exception()
        if error is None:
            unsynced.done()
        elif isinstance(error, OSError):
            logger.error("journal: cannot sync: %s; puts are refused until it is rewritten", error)
            self._journal.distrust(error)
            self._on_failure()
        else:
            raise error
