"""The door to what is spoken: all that a connection asks of its session.

Owns the interface only. Whoever speaks another protocol writes another session.
"""

from typing import TYPE_CHECKING, Callable, Optional

if TYPE_CHECKING:
    from typing import Protocol
else:
    Protocol = object  # it came with Python 3.8


class Session(Protocol):
    """Bytes in, bytes out.

    An exception that one of these raises ends the connection.
    """

    @property
    def unfinished(self) -> bool:
        """Whether there is more to do: ``go_on`` is to be called before anything is received."""

    @property
    def waiting(self) -> bool:
        """Whether an answer is to come in a later turn: until then nothing is received."""

    @property
    def over(self) -> bool:
        """Whether the connection is to be closed once the replies are sent."""

    @property
    def quiet(self) -> bool:
        """Whether it is none of these three; False also where that is not known at once."""

    @property
    def idle(self) -> bool:
        """Whether nothing is pending in either direction."""

    @property
    def deadline(self) -> Optional[float]:
        """When the connection is closed unless more has come, by the reactor's clock; or never."""

    def receive(self, data: bytes, more_waiting: bool) -> None:
        """Take an arrival, or part of one if there is ``more_waiting``; b"" is end of input."""

    def go_on(self) -> None:
        """Do a little of what is unfinished."""

    def when_answered(self, callback: Callable[[], None]) -> None:
        """While ``waiting``: call back once, in the loop, when it need not wait any more."""

    def replies(self) -> bytes:
        """What there is to say, each byte once."""
