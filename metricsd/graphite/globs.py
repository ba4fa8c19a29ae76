"""Globs: which keys a pattern with ``* ? [a-z] {a,b}`` means, and what is at its depth.

Owns the patterns and the walk over the keys, a few at a time. Dots part a key; no wildcard reaches
over one. What has no wildcard is looked up. The syntax: Graphite's documentation, "Paths and
Wildcards".
"""

import re
from heapq import merge
from itertools import islice
from typing import (
    Dict,
    Generator,
    Iterable,
    Iterator,
    List,
    NamedTuple,
    Optional,
    Pattern,
    Set,
    TypeVar,
    Union,
)

from metricsd.graphite.limits import (
    KEYS_A_STEP,
    MAX_NODES,
    MAX_SERIES,
    MAX_VARIANTS,
    RenderError,
)
from metricsd.store import Answer, Store

Result = TypeVar("Result")
# Yields where others may have their turn, and what has to be waited for.
Slices = Generator[Optional[Answer], None, Result]

WILD = re.compile(r"[*?\[{]")
BRACES = re.compile(r"\{([^{}]*)\}")
# What a part of a pattern is made of: wildcards, a set of characters, and anything else.
PIECES = re.compile(r"\*+|\?|\[!?\]?[^\]]*\]|[^*?\[]+|\[")

END_OF_PART = r"(?=\.|\Z)"

# Characters of keys that are compared with a variant in a step, at some 10 ns each: 0.5 ms.
CHARACTERS_A_STEP = 50_000


class Node(NamedTuple):
    """Something at a depth of the tree that keys make: a key, or what keys begin with."""

    path: str
    leaf: bool

    @property
    def name(self) -> str:
        """Its last part."""
        return self.path.rsplit(".", 1)[-1]


def is_wild(pattern: str) -> bool:
    """Whether a pattern may mean more than itself."""
    return WILD.search(pattern) is not None


def matching(store: Store, pattern: str, most: int = MAX_SERIES) -> Slices[List[str]]:
    """The keys that a pattern means as a whole, sorted.

    Raises RenderError if there are more than ``most``.
    """
    if not is_wild(pattern):
        return [pattern] if store.find(pattern) is not None else []
    found: Set[str] = set()
    regex = _compiled(pattern, r"\Z")
    for keys in index(store):
        if isinstance(keys, Answer):
            yield keys
            continue
        for some in _portions(keys, regex):
            found.update(filter(regex.match, some))
            _check(len(found), most, pattern)
            yield None
    return (yield from _in_order(found))


def find(store: Store, pattern: str) -> Slices[List[Node]]:
    """The nodes at the depth of a pattern: branches, then keys, each in the order of their paths.

    Raises RenderError if there are more than MAX_NODES.
    """
    leaves: Set[str] = set()
    branches: Set[str] = set()
    regex = _compiled(pattern, r"(?=(?P<more>\.)|\Z)")
    for keys in index(store):
        if isinstance(keys, Answer):
            yield keys
            continue
        for some in _portions(keys, regex):
            for found in filter(None, map(regex.match, some)):
                (branches if found.group("more") else leaves).add(found.group())
            _check(len(leaves) + len(branches), MAX_NODES, pattern)
            yield None
    nodes = []
    for paths, leaf in ((branches, False), (leaves, True)):
        for path in (yield from _in_order(paths)):
            nodes.append(Node(path, leaf))
            if len(nodes) % KEYS_A_STEP == 0:
                yield None
    return nodes


def expand(store: Store, patterns: Iterable[str], leaves_only: bool = False) -> Slices[List[str]]:
    """The paths of all these patterns' nodes, sorted, each once."""
    paths: Set[str] = set()
    for pattern in patterns:
        for node in (yield from find(store, pattern)):
            if node.leaf or not leaves_only:
                paths.add(node.path)
        _check(len(paths), MAX_NODES, pattern)
        yield None
    return (yield from _in_order(paths))


def index(store: Store) -> Iterator[Union[List[str], Answer]]:
    """Yield all keys in the order of their first put, some at a time.

    A store that is elsewhere has to be waited for in between. Raises StoreError if that is in vain.
    """
    keys: List[str] = []
    for item in store.items():
        if isinstance(item, Answer):
            yield item
            item.result  # noqa: B018 - raises
            continue
        keys.append(item[0])
        if len(keys) == KEYS_A_STEP:
            yield keys
            keys = []
    if keys:
        yield keys


def _in_order(paths: Set[str]) -> Slices[List[str]]:
    """Sort without holding up anybody: short runs, which are then merged."""
    runs = []
    source = iter(paths)
    while True:
        run = sorted(islice(source, KEYS_A_STEP))
        if not run:
            break
        runs.append(run)
        yield None
    ordered: List[str] = []
    merged = merge(*runs)
    while True:
        some = list(islice(merged, KEYS_A_STEP))
        if not some:
            return ordered
        ordered += some
        yield None


def _check(number: int, most: int, pattern: str) -> None:
    if number > most:
        raise RenderError(f"more than {most} series match {pattern[:100]}: ask for fewer")


def _compiled(pattern: str, end: str) -> Pattern[str]:
    """A pattern as a regular expression, with what follows it. Raises RenderError."""
    try:
        return re.compile(_regex(pattern) + end)
    except (re.error, RecursionError, OverflowError) as error:
        raise RenderError(f"not a pattern of keys: {pattern[:100]}: {error}") from None


def _portions(keys: List[str], regex: Pattern[str]) -> Iterator[List[str]]:
    """Some keys at a time, so that long ones, and patterns with many variants, hold up nobody."""
    most = CHARACTERS_A_STEP // max(regex.pattern.count(END_OF_PART), 1)
    some: List[str] = []
    characters = 0
    for key in keys:
        some.append(key)
        characters += len(key)
        if characters > most:
            yield some
            some, characters = [], 0
    if some:
        yield some


def _regex(pattern: str) -> str:
    """A pattern as a regular expression, which takes a time in proportion to key and pattern."""
    groups: Dict[str, int] = {}
    parts = []
    for part in pattern.split("."):
        variants = [_variant(variant, groups) for variant in _variants(part)]
        parts.append(variants[0] if len(variants) == 1 else _once("|".join(variants), groups))
    return r"\.".join(parts)


def _variants(part: str) -> List[str]:
    """What the braces of a part stand for, the innermost ones first."""
    variants = [part]
    done: List[str] = []
    while variants:
        variant = variants.pop()
        found = BRACES.search(variant)
        if found is None:
            done.append(variant)
        else:
            before, after = variant[: found.start()], variant[found.end() :]
            variants += [before + choice + after for choice in found.group(1).split(",")]
        if len(variants) + len(done) > MAX_VARIANTS:
            raise RenderError(f"a pattern stands for more than {MAX_VARIANTS} in its braces")
    return done


def _variant(part: str, groups: Dict[str, int]) -> str:
    """A part without braces as a regular expression that ends where the part of the key does.

    What follows a star is taken where it comes first, and that is not tried again: a later place
    could not do better. So stars do not multiply the time that a long key takes.
    """
    chunks = [""]
    for piece in PIECES.findall(part):
        if piece[0] == "*":
            chunks.append("")
        elif piece == "?":
            chunks[-1] += "[^.]"
        elif piece[0] == "[" and len(piece) > 2:
            chunks[-1] += _set(piece)
        else:
            chunks[-1] += re.escape(piece)
    if len(chunks) == 1:
        return chunks[0] + END_OF_PART
    regex = chunks[0]
    for chunk in chunks[1:-1]:
        regex += _once(f"[^.]*?{chunk}", groups)
    # The last chunk has to be where the part ends.
    last = f"[^.]*?{chunks[-1]}" if chunks[-1] else "[^.]*"
    return regex + last + END_OF_PART


def _once(regex: str, groups: Dict[str, int]) -> str:
    """What takes the first of its ways, and none again when what follows does not match.

    All variants of a part end where it does, so another one could not do better either.
    """
    name = f"g{len(groups)}"
    groups[name] = len(groups)
    return f"(?=(?P<{name}>{regex}))(?P={name})"


def _set(piece: str) -> str:
    """A set of characters; ``!`` means all others, and never a dot."""
    inside = piece[1:-1].replace("\\", "\\\\").replace("[", "\\[")
    inside = inside.replace("&&", "&\\&").replace("~~", "~\\~").replace("||", "|\\|")
    if inside[0] == "!":
        return f"[^.{inside[1:]}]"
    return "[" + ("\\" if inside[0] == "^" else "") + inside + "]"
