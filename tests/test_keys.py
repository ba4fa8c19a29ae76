"""The order of keys, while they come and go and readers walk along it."""

import random
from typing import Iterator, List, Set

import pytest

from metricsd.store import keys as keys_module
from metricsd.store.keys import Keys


def all_of(keys: Keys) -> List[str]:
    return [key for page in keys.pages() for key in page]


@pytest.fixture(autouse=True)
def _small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys_module, "PAGE_KEYS", 4)


class Reader:
    def __init__(self, pages: Iterator[List[str]], there: List[str], seen: List[str]):
        self.pages = pages
        self.there = there  # the keys when it began
        self.seen = seen
        self.taken: Set[str] = set()  # out, since it began


@pytest.mark.parametrize("seed", range(50))
def test_against_a_list(seed: int) -> None:
    """Readers see what was there when they began and has not been taken out, in order, once."""
    dice = random.Random(seed)
    keys = Keys()
    model: List[str] = []
    readers: List[Reader] = []
    for number in range(300):
        action = dice.random()
        if action < 0.6:
            keys.append(str(number), number)
            model.append(str(number))
        elif action < 0.8:
            for names in list(keys.pages()):
                gone = {name for name in names if dice.random() < 0.3}
                if gone:
                    for name in gone:
                        keys.remove(int(name))
                    model = [name for name in model if name not in gone]
                    for reader in readers:
                        reader.taken |= gone
        elif action < 0.9:
            pages = keys.pages()
            readers.append(Reader(pages, list(model), next(pages, [])))
        for reader in readers:
            if dice.random() < 0.2:
                reader.seen += next(reader.pages, [])
        assert all_of(keys) == model
    for reader in readers:
        reader.seen += [key for page in reader.pages for key in page]
        seen = [key for key in reader.seen if key not in reader.taken]
        assert seen == [key for key in reader.there if key not in reader.taken]
        assert len(set(reader.seen)) == len(reader.seen)
        assert set(reader.seen) <= set(reader.there)


def test_a_key_that_went_and_came_back_is_not_seen_twice() -> None:
    keys = Keys()
    for number, key in enumerate("abcdefg"):
        keys.append(key, number)
    reader = keys.pages()
    seen = next(reader)
    assert seen == ["a", "b", "c", "d"]
    keys.remove(0)
    keys.remove(4)
    keys.remove(5)
    keys.append("a", 7)
    assert [key for page in reader for key in page] == ["g"]
    assert all_of(keys) == ["b", "c", "d", "g", "a"]


def test_empty_pages_take_no_room() -> None:
    keys = Keys()
    for number in range(1000):
        keys.append(str(number), number)
        for names in list(keys.pages()):
            for name in names:
                keys.remove(int(name))
    assert len(keys._pages) == len(keys._starts) == 0


def test_reading_and_adding_in_turn_makes_no_more_pages() -> None:
    """A `get *` begins a walk and may never end it."""
    keys = Keys()
    for number in range(1000):
        keys.append(str(number), number)
        next(keys.pages())
    assert len(keys._pages) == 1000 // 4
    reader = keys.pages()
    assert next(reader) == ["0", "1", "2", "3"]
    keys.append("another", 1000)
    assert sum(len(page) for page in reader) == 996
