"""What has to be done about points from time to time, by whoever keeps them.

Owns the interface only: when it is time, upkeep.py knows.
"""

import abc
from typing import Callable, Iterator


class Tended(abc.ABC):
    """Something that keeps points, and has to be looked after."""

    # Called when there is something for ``seal_late`` to do, after there was not.
    on_late: Callable[[], None] = staticmethod(lambda: None)

    trouble = ""  # why puts are refused now, if it is for another reason than that it is full

    @abc.abstractmethod
    def drop_before(self, oldest: int) -> Iterator[None]:
        """Drop every point before a timestamp, and every series that is then empty.

        The work is done in steps of some 0.1 ms, one each time that the next item is asked for.
        """

    @property
    @abc.abstractmethod
    def late_blocks(self) -> int:
        """The blocks that have grown by points that came late."""

    @abc.abstractmethod
    def seal_late(self) -> None:
        """Make the one of these smaller that has waited longest, in less than 0.1 ms."""

    @abc.abstractmethod
    def close(self) -> None:
        """Give back what it holds outside of this process; it is not used any more."""
