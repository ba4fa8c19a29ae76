"""The commit: what a turn has put is written to the journal, then stored; or else refused.

Owns that order, and puts the parts of the journal together. Does not know who has put what.
"""

import logging
from typing import Callable, Optional

from metricsd.background import Background
from metricsd.compaction import Compaction
from metricsd.disk import Disk
from metricsd.everysecond import EverySecond
from metricsd.journal import EVERY_SECOND, Journal, JournalError
from metricsd.ledger import Ledger
from metricsd.reactor import LOG_SECONDS, Reactor
from metricsd.recovery import recover
from metricsd.store import Store

LOCK_FILE = "lock"

# When the server ends, a disk that hangs has so many seconds.
CLOSE_SECONDS = 5.0

logger = logging.getLogger("metricsd")


class Commit:
    """Makes a store durable: sessions put into the ``ledger``, and each turn ends with ``run``.

    So one write and one sync serve all clients of a turn.
    """

    def __init__(
        self,
        store: Store,
        reactor: Reactor,
        folder: str,
        policy: str,
        damage: str,
        open_disk: Callable[[str], Disk] = Disk,
    ) -> None:
        """Load the journal in a folder into the store, and go on with it.

        Raises JournalError if the folder can't be used, or the journal in it is damaged.
        """
        self.ledger = Ledger(store)
        self._reactor = reactor
        self._next_log = reactor.now
        self._said_so = False  # that puts are refused
        try:
            self._background = Background()
        except RuntimeError as error:  # the system has no thread left
            raise _unusable(folder, error) from error
        try:
            self._disk = open_disk(folder)
        except (OSError, ValueError) as error:
            self._background.close(CLOSE_SECONDS)
            raise _unusable(folder, error) from error
        try:
            self._disk.lock(LOCK_FILE)
            found = recover(self._disk, store, damage)
            whole = found.whole and not found.damaged
            self._journal = Journal(self._disk, found.end, whole, found.next_number, policy)
        except OSError as error:
            self._give_up()
            raise _unusable(folder, error) from error
        except BaseException:
            self._give_up()
            raise
        parts = (self._journal, self._disk, reactor, self._background)
        self._compaction = Compaction(store, *parts, found=found)
        self._every_second: Optional[EverySecond] = None
        if policy == EVERY_SECOND:
            again = self._compaction.begin
            self._every_second = EverySecond(self._journal, reactor, self._background, again)
        if found.damaged:
            self._compaction.begin()

    def run(self) -> None:
        """Commit the puts of a turn. Replies to them may leave only after this."""
        puts = len(self.ledger)
        if not puts:
            return
        try:
            size = self._journal.append(self.ledger.lines)
        except (OSError, MemoryError) as error:
            self.ledger.refuse()
            self._refuse(error)
            return
        self.ledger.store()
        self._compaction.written(puts, size)
        if self._every_second is not None:
            self._every_second.written()
        if self._said_so:
            self._said_so = False
            logger.info("journal: puts are stored again")

    def close(self) -> None:
        """Write no more, and leave the folder to others. Waits CLOSE_SECONDS for the disk."""
        last = self._journal.take_unsynced() if self._every_second is not None else None
        synced = None if last is None else self._background.submit(last.sync)
        if not self._background.close(CLOSE_SECONDS):
            logger.error("journal: the disk does not answer; the last puts may not be safe")
            return
        if synced is not None and synced.exception() is not None:
            logger.error("journal: the last puts may not be safe: %s", synced.exception())
        self._compaction.close()
        self._journal.close()
        self._disk.release()

    def _give_up(self) -> None:
        self._background.close(CLOSE_SECONDS)
        self._disk.release()

    def _refuse(self, error: Exception) -> None:
        if self._reactor.now >= self._next_log:
            self._said_so = True
            self._next_log = self._reactor.now + LOG_SECONDS
            logger.error("journal: puts are refused until it can be written: %s", error)


def _unusable(folder: str, error: Exception) -> JournalError:
    if isinstance(error, BlockingIOError):
        reason = "another server uses it; stop that one, or choose another folder"
    else:
        what = getattr(error, "strerror", None) or error
        reason = f"{what}; choose a folder that can be read and written"
    return JournalError(f"cannot use the journal in {folder}: {reason}")
