"""The keys in the order in which they were first put.

Owns that order, also while readers walk along it and keys come and go. Does not know what the keys
stand for.
"""

from bisect import bisect_left, bisect_right
from typing import Iterator, List, Set, Tuple

# Keys in a page. A reader copies a page at a time, 4 KiB, and so do 1,000 that have fallen asleep.
PAGE_KEYS = 512


class Keys:
    """Different keys in the order of their arrival, on numbered pages.

    A dict that changes can't be walked, and positions in a list shift when a key is taken out. Here
    a reader copies a page and finds the next one by its number. A page that a reader may have seen
    gets no more keys, so that none that went and came back is seen twice.
    """

    __slots__ = ("_numbers", "_pages")

    def __init__(self) -> None:
        self._numbers = [0]  # ascending
        self._pages: List[List[str]] = [[]]  # the last one is being filled

    def append(self, key: str) -> None:
        """Add a key that is not there."""
        if len(self._pages[-1]) >= PAGE_KEYS:
            self._begin_page()
        self._pages[-1].append(key)

    def pages(self) -> Iterator[Tuple[int, List[str]]]:
        """Yield the number and the keys of each page with keys that are there now."""
        if self._pages[-1]:
            self._begin_page()
        end, index = self._numbers[-1], 0
        while self._numbers[index] < end:
            number = self._numbers[index]
            yield number, self._pages[index][:]
            index = bisect_right(self._numbers, number)

    def remove(self, number: int, keys: Set[str]) -> None:
        """Take keys out of a page that ``pages`` has yielded."""
        index = bisect_left(self._numbers, number)
        page = self._pages[index]
        page[:] = [key for key in page if key not in keys]
        if not page:
            del self._numbers[index], self._pages[index]

    def _begin_page(self) -> None:
        self._numbers.append(self._numbers[-1] + 1)
        self._pages.append([])
