"""The keys in the order in which they were first put.

Owns that order, also while readers walk along it and keys come and go. Does not know what the keys
stand for.
"""

from array import array
from bisect import bisect_left, bisect_right
from typing import Iterator, List

# Keys in a page. A reader copies a page at a time, 4 KiB, and so do 1,000 that have fallen asleep.
PAGE_KEYS = 512


class Page:
    """Some keys that follow each other, each with its number, which is larger than all before."""

    __slots__ = ("keys", "numbers")

    def __init__(self) -> None:
        self.keys: List[str] = []
        self.numbers = array("q")


class Keys:
    """Different keys in the order of their arrival.

    A dict that changes can't be walked, and positions in a list shift when a key is taken out. So
    each key has a number, and a reader goes on behind the number that it has come to, up to the one
    that was the last when it began: a key that went and came back has another one, and is not seen
    twice.
    """

    __slots__ = ("_next", "_pages", "_starts")

    def __init__(self) -> None:
        self._next = 0  # no key has this number yet, nor a larger one
        self._starts: List[int] = []  # no number of a page is less; ascending
        self._pages: List[Page] = []

    def append(self, key: str, number: int) -> None:
        """Add a key that is not there; its number is larger than any before."""
        if not self._pages or len(self._pages[-1].keys) >= PAGE_KEYS:
            self._starts.append(number)
            self._pages.append(Page())
        page = self._pages[-1]
        page.keys.append(key)
        page.numbers.append(number)
        self._next = number + 1

    def pages(self) -> Iterator[List[str]]:
        """Yield the keys that there are now, page by page."""
        number, end = 0, self._next
        while self._pages and number < end:
            index = max(bisect_right(self._starts, number) - 1, 0)
            page = self._pages[index]
            keys = page.keys[bisect_left(page.numbers, number) : bisect_left(page.numbers, end)]
            # No page starts between the last number of this one and the start of the next.
            number = self._starts[index + 1] if index + 1 < len(self._starts) else end
            if keys:
                yield keys

    def remove(self, number: int) -> None:
        """Take out the key of this number, which is there."""
        index = bisect_right(self._starts, number) - 1
        page = self._pages[index]
        place = bisect_left(page.numbers, number)
        del page.numbers[place], page.keys[place]
        if not page.keys:
            del self._starts[index], self._pages[index]
