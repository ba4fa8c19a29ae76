"""Words: what is said to a request, or what will be once it is known.

Owns the replies that are always the same. Does not know which request gets which.
"""

from typing import NamedTuple, Optional, Union

from metricsd.store import STORED, Receipt, StoreError

OK = b"ok\n\n"
WRONG_COMMAND = b"error\nwrong command\n\n"


class Puts(NamedTuple):
    """A number of puts, and the receipt for all of them.

    Of no puts, it is something else that is waited for, of which nothing is said: an Answer.
    """

    number: int
    receipt: Receipt

    def said(self) -> bytes:
        """The replies to them; nothing while the receipt is open."""
        return words(self.receipt.refusal) * self.number if self.receipt.settled else b""


# What has come of some requests: words, or puts whose receipt is open.
Outcome = Union[bytes, Puts]


def of_puts(number: int, receipt: Receipt) -> Outcome:
    """What has come of so many puts: words, if it is known by now."""
    if receipt is STORED:
        return OK * number
    if not receipt.settled:
        return Puts(number, receipt)
    return words(receipt.refusal) * number


def words(refusal: Optional[StoreError]) -> bytes:
    """The reply to a put that was stored, or refused."""
    return OK if refusal is None else f"error\n{refusal}\n\n".encode()


def known_bytes(outcome: Outcome) -> int:
    """The bytes of words; none of what is not known yet."""
    return len(outcome) if isinstance(outcome, bytes) else 0
