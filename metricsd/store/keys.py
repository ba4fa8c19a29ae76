"""The keys in the order in which they were first put.

Owns that order, also while readers walk along it and keys come and go. Does not know what the keys
stand for.
"""

from array import array
from bisect import bisect_left, bisect_right
from typing import Iterator, List, Set, Tuple

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
        self._next = 0  # the number of the next key
        self._starts: List[int] = []  # no number of a page is less; ascending
        self._pages: List[Page] = []

    def append(self, key: str) -> None:
        """Add a key that is not there."""
        if not self._pages or len(self._pages[-1].keys) >= PAGE_KEYS:
            self._starts.append(self._next)
            self._pages.append(Page())
        page = self._pages[-1]
        page.keys.append(key)
        page.numbers.append(self._next)
        self._next += 1

    def pages(self) -> Iterator[Tuple[int, List[str]]]:
        """Yield what there is now, page by page: where the page starts, and its keys."""
        number, end = 0, self._next
        while self._pages and number < end:
            index = max(bisect_right(self._starts, number) - 1, 0)
            start, page = self._starts[index], self._pages[index]
            keys = page.keys[bisect_left(page.numbers, number) : bisect_left(page.numbers, end)]
            # No page starts between the last number of this one and the start of the next.
            number = self._starts[index + 1] if index + 1 < len(self._starts) else end
            if keys:
                yield start, keys

    def remove(self, start: int, keys: Set[str]) -> None:
        """Take keys out of a page that ``pages`` has yielded."""
        index = bisect_left(self._starts, start)
        page = self._pages[index]
        left = [place for place, key in enumerate(page.keys) if key not in keys]
        page.numbers = array("q", [page.numbers[place] for place in left])
        page.keys = [page.keys[place] for place in left]
        if not left:
            del self._starts[index], self._pages[index]
