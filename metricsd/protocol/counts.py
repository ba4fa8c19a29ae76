"""Counts: how much has been asked and said on all sessions of a server together.

Owns the numbers only. They are counted for each arrival or block, not for each put.
"""


class Counts:
    """Numbers that only grow."""

    __slots__ = ("bytes_in", "bytes_out", "gets", "puts", "refused", "strangers", "wrong")

    def __init__(self) -> None:
        self.bytes_in = self.bytes_out = 0
        self.puts = 0  # that a store has taken; it may still refuse those whose receipt is open
        self.refused = 0  # puts that a store has not taken
        self.gets = 0
        self.wrong = 0  # requests that are no commands
        self.strangers = 0  # sessions that began as no client of this protocol does
