"""Reading: what is asked for a series and for the list of keys, of many clients at a time.

Owns the questions and how they are asked together. They are generators: each yields commands, is
sent their results, and returns what it has found. What is here runs in a thread beside the loop,
but for the generators' making.
"""

from bisect import bisect_right
from typing import Any, Dict, Generator, List, Sequence, Set, Tuple

from metricsd.cluster.encoding import (
    BUCKET_SECONDS,
    KEYS,
    PACKED,
    Command,
    bucket_of,
    columns_of,
    end_of,
    hash_name,
    index_name,
    member,
)
from metricsd.cluster.links import LinkError
from metricsd.cluster.packing import PART_SECONDS, PARTS, part_name, unpacked
from metricsd.store import MAX_TIMESTAMP, MIN_TIMESTAMP, Columns

# Buckets that are read at a time, or parts of one: up to 2,000 points, or 32 KB that a client may
# leave waiting, and again as many while they are read.
BUCKETS_A_READ = 4

# Keys of which the list is read at a time, with a bucket of each: up to 8,000 points, or 128 KB.
KEYS_A_READ = 16

Question = Generator[List[Command], List[Any], Any]
Found = Tuple[Columns, int]  # points, and the timestamp up to which these are all


def points_after(key: str, after: int, buckets: int = BUCKETS_A_READ) -> Question:
    """Ask for points of a key after a timestamp; it comes to a Found."""
    if after >= MAX_TIMESTAMP:
        return ([], []), MAX_TIMESTAMP
    first = member((after + 1) // BUCKET_SECONDS)
    limit = [b"LIMIT", b"0", b"%d" % buckets]
    (names,) = yield [[b"ZRANGEBYLEX", index_name(key), b"[" + first, b"+", *limit]]
    numbers = list(map(bucket_of, names))
    hashes = yield [[b"HGETALL", hash_name((key, number))] for number in numbers]
    (timestamps, values) = columns_of(0, {})
    end = end_of(numbers[-1]) if len(numbers) == buckets else MAX_TIMESTAMP
    for number, fields in zip(numbers, hashes):
        if PACKED in fields:
            fields, end = yield from parts_after(key, number, after, buckets, fields)
        more = columns_of(number, fields)
        timestamps += more[0]
        values += more[1]
        if PACKED in fields:
            break  # what comes behind its parts is read another time
    there = slice(bisect_right(timestamps, after), bisect_right(timestamps, end))
    return (timestamps[there], values[there]), end


def parts_after(key: str, bucket: int, after: int, count: int, fields: Any) -> Question:
    """Ask for so many parts of a bucket; it comes to fields with those of the bucket, and an end.

    That is the timestamp up to which these are all.
    """
    start = bucket * BUCKET_SECONDS
    first = max(0, after + 1 - start) // PART_SECONDS
    parts = range(PARTS)[first : first + count]
    found = yield [[b"HGETALL", part_name((key, bucket), part)] for part in parts]
    return unpacked(fields, found), min(start + parts.stop * PART_SECONDS - 1, MAX_TIMESTAMP)


class Page:
    """A part of the list of keys: where it begins, and then what has been found."""

    def __init__(self) -> None:
        self.order = -1.0  # the lowest that is asked for
        self.last = float("inf")  # the highest, of what was there at first
        self.seen: Set[str] = set()  # keys of the lowest that are known by now
        self.found: Dict[str, Found] = {}  # keys with their first points
        self.whole = False  # nothing comes behind it

    def question(self) -> Question:
        """Ask for the next part."""
        lowest = b"-inf" if self.order < 0 else b"%d" % self.order
        # Two fronts may have put keys in the same microsecond, so the lowest is asked for again.
        limit = [b"LIMIT", b"0", b"%d" % (KEYS_A_READ + len(self.seen))]
        page: Command = [b"ZRANGEBYSCORE", KEYS, lowest, b"+inf", b"WITHSCORES", *limit]
        newest: Command = [b"ZRANGE", KEYS, b"-1", b"-1", b"WITHSCORES"]
        found, last = yield [page, newest]
        if self.order < 0:
            self.last = max((order for _, order in scored(last)), default=-1.0)
        rows = [(key.decode(), order) for key, order in scored(found)]
        self.whole = len(rows) < KEYS_A_READ + len(self.seen) or rows[-1][1] >= self.last
        keys = [key for key, order in rows if order <= self.last and key not in self.seen]
        if rows:
            self.order = rows[-1][1]
            self.seen = {key for key, order in rows if order == self.order}
        firsts = yield from together([points_after(key, MIN_TIMESTAMP - 1, 1) for key in keys])
        for first in firsts:
            if isinstance(first, Exception):
                raise first
        self.found = dict(zip(keys, firsts))
        return self


def scored(found: Any) -> List[Tuple[bytes, float]]:
    """Members with their scores, however the client library gives them."""
    return list(found.items() if isinstance(found, dict) else found)


def together(questions: Sequence[Question]) -> Question:
    """Ask several questions at once; it comes to a list of what they come to, or of exceptions."""
    answers: List[Any] = [None] * len(questions)
    results: Dict[int, Any] = dict.fromkeys(range(len(questions)))  # of those that go on
    while results:
        asked: List[Tuple[int, List[Command]]] = []
        for number, result in results.items():
            try:
                asked.append((number, questions[number].send(result)))
            except StopIteration as end:
                answers[number] = end.value
            except (LinkError, ValueError) as error:
                answers[number] = error
        found = iter((yield [command for _, commands in asked for command in commands]))
        results = {}
        for number, commands in asked:
            some = [next(found) for _ in commands]
            errors = [one for one in some if isinstance(one, Exception)]
            if errors:
                answers[number] = errors[0]
            else:
                results[number] = some
    return answers


def ask(link: Any, questions: Sequence[Question]) -> List[Any]:
    """Ask them together; return what they come to, or exceptions. Raises LinkError."""
    steps = together(questions)
    results: Any = None
    while True:
        try:
            commands = steps.send(results)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        results = link.run(commands) if commands else []
