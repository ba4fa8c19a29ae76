"""When a commit begins: a cost that should be shared by all who are about to put.

Owns whom it waits for. Does not know what is committed.
"""

from typing import Optional

from metricsd.loop import Reactor

# Seconds for which a commit waits at most for more puts, and the commits that wait for none who are
# back after one has waited in vain: its clients put when they like, whatever they are told.
WAIT_SECONDS = 0.001
HASTY_COMMITS = 8


class Gathering:
    """The puts that wait for a commit, as numbers.

    It costs as much as some ten turns, whatever is in it. Who has been told of the last one is
    likely to put again; so with those who have been waiting, it is known how many there may be.
    """

    def __init__(self, reactor: Reactor) -> None:
        self._reactor = reactor
        self._expected = 0  # puts, if all put again who were told of the last commit
        self._until: Optional[float] = None  # for these
        self._hasty = 0  # commits that are not to wait for these
        self._puts_before = 0  # this turn

    def is_early(self, puts: int, pending: int) -> bool:
        """Whether some are about to put who have not yet; then the next turn comes in time.

        Asked once a turn with all puts so far, and those that wait. Where those who were told have
        not come back, a turn that brings more puts tells of others.
        """
        grows, self._puts_before = puts != self._puts_before, puts
        begins, now = self._until is None, self._reactor.now
        self._until = now + WAIT_SECONDS if self._until is None else self._until
        if now >= self._until:
            self._hasty = self._hasty or HASTY_COMMITS
            return False
        early = grows if self._hasty else pending < self._expected
        if early and (self._hasty or begins):
            self._reactor.call_later(0.0 if self._hasty else WAIT_SECONDS, nothing)
        return early

    def committed(self, pending: int) -> None:
        """A commit is done; its puts are among those that were waiting until now."""
        self._expected = pending
        self._until = None
        self._hasty = max(self._hasty - 1, 0)


def nothing() -> None:
    """What a timer does that only wakes the loop."""
