"""Globs: what they mean, beside the plainest way to find that out, and in what steps."""

import fnmatch
import random
import re
import time
from typing import Any, Generator, List, Set

import pytest

from metricsd.graphite import Node, RenderError, expand, find, index, matching
from metricsd.graphite.limits import KEYS_A_STEP, MAX_SERIES
from metricsd.store import Memory

KEYS = ["a.b.c", "a.b", "a.bx.c", "a.by.d", "q", "aa", "host;x=a.b", "a.{.c"]


def done(slices: Generator[Any, None, Any]) -> Any:
    """The result of work that is done in steps."""
    while True:
        try:
            next(slices)
        except StopIteration as end:
            return end.value


def store_of(keys: List[str]) -> Memory:
    store = Memory()
    for key in keys:
        store.put(key, 1.0, 1)
    return store


@pytest.mark.parametrize(
    "pattern, found",
    [
        ("*", "a. host;x=a. aa q"),
        ("a", "a."),
        ("a.*", "a.b. a.bx. a.by. a.{. a.b"),
        ("a.b", "a.b. a.b"),
        ("a.b*", "a.b. a.bx. a.by. a.b"),
        ("a.*.c", "a.b.c a.bx.c a.{.c"),
        ("a.{b,bx}.c", "a.b.c a.bx.c"),
        ("a.{b,{bx,by}}.[cd]", "a.b.c a.bx.c a.by.d"),
        ("a.b?.c", "a.bx.c"),
        ("a.b[x-z].*", "a.bx.c a.by.d"),
        ("a.b[!x].*", "a.by.d"),
        ("a.b*x.c", "a.bx.c"),
        ("a*a", "aa"),
        ("*a", "host;x=a. aa a."),
        ("*;x=*.b", "host;x=a.b"),
        ("a.[", ""),
        ("a.{", "a.{."),
        ("zz", ""),
        ("", ""),
    ],
)
def test_what_is_found(pattern: str, found: str) -> None:
    nodes = [Node(path.rstrip("."), not path.endswith(".")) for path in found.split()]
    there = done(find(store_of(KEYS), pattern))
    assert sorted(there) == sorted(nodes)
    assert there == sorted(there, key=lambda node: (node.leaf, node.path))


def test_a_name_is_the_last_part() -> None:
    assert Node("a.b.c", True).name == "c"


def plainly(keys: List[str], pattern: str) -> Set[str]:
    """What a pattern means by fnmatch, part by part, with all braces spelled out."""
    braces = re.search(r"\{([^{}]*)\}", pattern)
    if braces:
        choices = braces.group(1).split(",")
        around = pattern[: braces.start()], pattern[braces.end() :]
        return {key for one in choices for key in plainly(keys, one.join(around))}
    parts = pattern.split(".")
    return {
        key
        for key in keys
        if len(key.split(".")) == len(parts)
        and all(map(fnmatch.fnmatchcase, key.split("."), parts))
    }


def test_random_patterns_mean_what_fnmatch_says() -> None:
    chance = random.Random(7)
    pieces = ["a", "b", "ab", "*", "?", "[ab]", "[!a]", "[a-b]", "{a,b}", "{a,}", "{b,{a,ab}}", "."]
    keys = [
        "".join(chance.choice("aab.") for _ in range(chance.randrange(1, 8))) for _ in range(60)
    ]
    store = store_of(keys)
    hits = 0
    for _ in range(400):
        pattern = "".join(chance.choice(pieces) for _ in range(chance.randrange(1, 7)))
        if pattern.count("{") > 3:  # they may stand for too many
            continue
        found = done(matching(store, pattern))
        assert set(found) == plainly(keys, pattern), pattern
        assert found == sorted(found)
        hits += bool(found)
    assert hits > 100


def test_expand_gives_each_path_once() -> None:
    store = store_of(KEYS)
    assert done(expand(store, ["a.b*", "a.b"])) == ["a.b", "a.bx", "a.by"]
    assert done(expand(store, ["a.b*", "q"], leaves_only=True)) == ["a.b", "q"]


def test_the_index_comes_in_order_and_in_parts() -> None:
    keys = [f"k{number}" for number in range(KEYS_A_STEP + 1)]
    parts: List[Any] = list(index(store_of(keys)))
    assert [len(part) for part in parts] == [KEYS_A_STEP, 1]
    assert [key for part in parts for key in part] == keys


def test_too_much_is_refused() -> None:
    store = store_of([f"k{number}" for number in range(MAX_SERIES + 1)])
    assert len(done(find(store, "k*"))) == MAX_SERIES + 1
    with pytest.raises(RenderError, match=f"more than {MAX_SERIES} series match k"):
        done(matching(store, "k*"))
    with pytest.raises(RenderError, match="braces"):
        done(find(store, "{a,b}" * 7))


def test_no_pattern_takes_long_for_a_long_key() -> None:
    """Tried in all ways, these stars take ages."""
    store = store_of(["a" * 20_000])
    start = time.process_time()
    assert done(matching(store, "*a" * 12 + "b")) == []
    assert done(matching(store, "*a" * 12)) == ["a" * 20_000]
    assert time.process_time() - start < 1


def test_variants_do_not_multiply_the_time_by_parts() -> None:
    """Each part has eight ways to match, and there are as many parts as a million years need."""
    store = store_of([".".join(["aa"] * 20) + ".b"])
    pattern = ".".join(["{a*,*a,*,a?,?a,??,aa,*a*}"] * 20)
    assert done(matching(store, pattern + ".c")) == []
    assert len(done(matching(store, pattern + ".b"))) == 1


def test_long_keys_and_many_variants_make_steps_of_fewer_keys() -> None:
    """Counted in steps: a step takes some hundred keys only if these are cheap to compare."""
    store = store_of(["a" * 3000 + str(number) for number in range(100)])
    pattern = "{" + ",".join(f"*{number}*x" for number in range(90)) + "}"
    for search in (matching(store, pattern), find(store, pattern)):
        assert sum(1 for _ in search) >= 100
    assert sum(1 for _ in matching(store_of(KEYS), "*.*")) < 5


def test_many_keys_are_walked_in_short_steps() -> None:
    """Steps are counted, as the time of one depends on the machine."""
    store = store_of([f"host{number % 100}.k{number}" for number in range(20_000)])
    found: List[Any] = []
    steps = sum(1 for _ in _noted(find(store, "host*.k*7"), found))
    assert steps >= 20_000 / KEYS_A_STEP
    assert len(found[0]) == 2_000


def _noted(slices: Generator[Any, None, Any], results: List[Any]) -> Generator[None, None, None]:
    results.append((yield from slices))
