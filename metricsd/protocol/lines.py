"""Lines out of a stream: bytes go in as they arrive, whole lines come out.

Owns the input that is not a whole line yet, and bounds it. Does not know what a line means.
"""

from typing import Optional

MAX_LINE_BYTES = 64 * 1024  # the default limit for one line, its line feed not counted


class LineBuffer:
    """Cuts a stream into blocks of whole lines.

    The buffer is a bytearray cut at its front, which moves no memory, and no byte is searched for
    a line feed twice. Slicing `bytes` instead would copy the rest of the buffer for every line.
    """

    __slots__ = ("_blank", "_buffer", "_limit", "_searched", "block_bytes", "inside_line",
                 "skipping")  # fmt: skip

    def __init__(self, limit: int, block_bytes: int) -> None:
        """Hand out lines of at most ``limit`` bytes, several at a time up to ``block_bytes``."""
        self._buffer = bytearray()
        self._limit = limit
        self.block_bytes = min(block_bytes, limit + 1)
        self._searched = 0  # how far the buffer is known to hold no line feed
        self._blank = 0  # how far it is known to hold white space alone; -1: not alone
        self.inside_line = False  # a line has begun that is not blank so far, and has not ended
        self.skipping = False  # inside a line over the limit, whose rest is dropped

    @property
    def empty(self) -> bool:
        """Whether nothing is left of what was fed, and the next byte begins a line."""
        return not self._buffer and not self.skipping

    def begins_with(self, start: bytes) -> bool:
        """Whether what is left does."""
        return self._buffer.startswith(start)

    def feed(self, data: bytes) -> None:
        """Take bytes in the order of their arrival."""
        if self.skipping:
            end = data.find(b"\n") + 1
            if not end:
                return
            self.skipping = self.inside_line = False
            self._blank = 0
            data = data[end:]
        room = self._limit + 1 - len(self._buffer)
        if len(data) > room and b"\n" not in data:
            data = data[:room]  # the line is too long already: what comes now would be dropped
        self._buffer += data

    def take(self) -> Optional[bytes]:
        """The next block of whole lines, each with its line feed, or None if there is none.

        In a block of several lines each is within the limit. A line over the limit comes alone. If
        its end has not arrived, it comes cut off, but still over the limit, with a line feed of
        its own, and the rest of it is dropped.
        """
        buffer = self._buffer
        # As many lines as a block may hold; or else the first line alone, however long it is.
        end = buffer.rfind(b"\n", self._searched, self.block_bytes) + 1
        if not end:
            end = buffer.find(b"\n", self._searched) + 1
        if end:
            block = bytes(buffer[:end])
            del buffer[:end]
            self._searched = self._blank = 0
            self.inside_line = False
            return block
        if len(buffer) > self._limit:
            buffer[self._limit + 1 :] = b"\n"
            block = bytes(buffer)
            self.clear()
            self.skipping = self.inside_line = True
            return block
        self._searched = len(buffer)
        self._look_inside()
        return None

    def clear(self) -> None:
        """Forget everything that was not handed out."""
        del self._buffer[:]
        self._searched = self._blank = 0
        self.skipping = self.inside_line = False

    def _look_inside(self) -> None:
        """Note whether the line that has begun is blank so far; what is known is kept."""
        if self._blank < 0 or self.skipping:
            return
        try:
            blank = not self._buffer[self._blank :].decode().strip()
        except UnicodeDecodeError as error:
            self.inside_line = True
            if error.reason != "unexpected end of data":  # the rest of a character may come yet
                self._blank = -1
        else:
            self.inside_line = not blank
            self._blank = len(self._buffer) if blank else -1
