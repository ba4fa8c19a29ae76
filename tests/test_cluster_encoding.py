"""How points stand in the cluster, and what is asked and written, without one."""

import json
import random
from typing import Any, Dict, List

import pytest

from metricsd.cluster.address import parse
from metricsd.cluster.encoding import (
    BUCKET_SECONDS,
    PACKED,
    SLOTS,
    bucket_of,
    columns_of,
    end_of,
    hash_name,
    index_name,
    member,
    points_of,
    slot_of,
)
from metricsd.cluster.encoding import KEYS as KEYS_SET
from metricsd.cluster.links import LinkError
from metricsd.cluster.packing import PART_SECONDS, part_name
from metricsd.cluster.reading import ask, points_after, together
from metricsd.cluster.writing import Batch, Writer
from metricsd.store import MAX_TIMESTAMP, MIN_TIMESTAMP, OpenError
from tests.script import KEYS, VALUES

TIMES = [0, 1, -1, BUCKET_SECONDS - 1, BUCKET_SECONDS, -BUCKET_SECONDS, 1503319740]
TIMES += [MIN_TIMESTAMP, MIN_TIMESTAMP + 1, MAX_TIMESTAMP - 1, MAX_TIMESTAMP]


def test_points_come_back_as_they_were() -> None:
    dice = random.Random(1)
    model: Dict[int, float] = {}
    values = [float(dice.choice(VALUES)) for _ in range(2000)]
    times = [dice.choice(TIMES) + dice.choice([0, 0, 7, 900]) for _ in values]
    times = [min(max(time, MIN_TIMESTAMP), MAX_TIMESTAMP) for time in times]
    model.update(zip(times, values))
    found: Dict[int, float] = {}
    for place, (name, *words) in points_of(["k"] * len(values), values, times).items():
        assert name == hash_name(place)
        texts = [word.encode() for word in words]
        fields = dict(zip(texts[::2], texts[1::2]))
        assert len(fields) <= BUCKET_SECONDS
        timestamps, some = columns_of(place[1], fields)
        assert list(timestamps) == sorted(timestamps)
        found.update(zip(timestamps, some))
    assert {time: repr(value) for time, value in found.items()} == {
        time: repr(value) for time, value in model.items()
    }


def test_buckets_are_in_order_as_text() -> None:
    buckets = sorted({time // BUCKET_SECONDS for time in TIMES})
    names = [member(bucket) for bucket in buckets]
    assert names == sorted(names)
    assert [bucket_of(name) for name in names] == buckets
    assert len({len(name) for name in names}) == 1
    for time in TIMES:
        assert time <= end_of(time // BUCKET_SECONDS) <= MAX_TIMESTAMP


def test_no_two_names_are_the_same_and_a_key_is_in_one_slot() -> None:
    keys = [*KEYS, "}", "}x", "{", "{}", "a}:5", "a}", "{a", "x}y", "a:5"]
    names = [index_name(key) for key in keys] + [hash_name((key, 5)) for key in keys]
    assert len(set(names)) == 2 * len(keys)
    for key in keys:
        assert slot_of(index_name(key)) == slot_of(hash_name((key, -7)))


def test_slots_are_those_of_the_cluster() -> None:
    # Of the specification's own examples, and of Valkey's CLUSTER KEYSLOT.
    assert slot_of("123456789") == 12739
    assert slot_of("{user1000}.following") == slot_of("user1000") == 3443
    assert slot_of("foo{}{bar}") == 8363


def test_who_is_told_of_a_failure() -> None:
    batch = Batch()
    batch.add(["a", "b"], [1.0, 1.0], [1, 1])
    batch.add(["a"], [1.0], [BUCKET_SECONDS])
    batch.add(["b", "a"], [1.0, 1.0], [1, 2])
    assert [stored for *_, stored in batch.outcomes()] == [False] * 3  # nobody knows
    batch.failed = {("b", 0)}
    assert [stored for *_, stored in batch.outcomes()] == [False, True, False]
    batch.failed = set()
    assert [stored for *_, stored in batch.outcomes()] == [True] * 3


def test_questions_take_their_steps_together() -> None:
    def question(name: bytes, steps: int) -> Any:
        said: List[Any] = []
        for number in range(steps):
            said += yield [[name, b"%d" % number]] * (number + 1)
        return said

    asked = together([question(b"a", 0), question(b"b", 2), question(b"c", 1)])
    assert next(asked) == [[b"b", b"0"], [b"c", b"0"]]
    assert asked.send([10, RuntimeError("down")]) == [[b"b", b"1"]] * 2
    with pytest.raises(StopIteration) as end:
        asked.send([11, 12])
        asked.send([])
    answers = end.value.value
    assert answers[:2] == [[], [10, 11, 12]]
    assert str(answers[2]) == "down"


@pytest.mark.parametrize("base", [0, MIN_TIMESTAMP, MAX_TIMESTAMP - 3 * BUCKET_SECONDS])
def test_a_packed_bucket_is_read_a_few_parts_at_a_time(base: int) -> None:
    """Of the buckets some are packed; what is in a bucket is newer than what is in its parts."""
    dice, model = random.Random(base), {}
    hashes: Dict[str, Dict[bytes, bytes]] = {}
    for time in sorted(dice.sample(range(base, base + 3 * BUCKET_SECONDS), 6000)):
        bucket, second = divmod(time, BUCKET_SECONDS)
        name = hash_name(("k", bucket))
        fields = hashes.setdefault(name, {})
        if bucket % 2:
            fields[PACKED] = b""
            part = hashes.setdefault(part_name(("k", bucket), second // PART_SECONDS), {})
            part[b"%d" % second] = b"1"
            model[time] = 1.0
        if not bucket % 2 or dice.random() < 0.1:
            fields[b"%d" % second] = b"2"
            model[time] = 2.0
    buckets = sorted({time // BUCKET_SECONDS for time in model})

    class Shard:
        def run(self, commands: List[Any]) -> List[Any]:
            return [self._answer(*command) for command in commands]

        def _answer(self, command: bytes, name: str, *words: bytes) -> Any:
            if command == b"HGETALL":
                return hashes.get(name, {})
            names = [member(bucket) for bucket in buckets]
            return [one for one in names if one >= words[0][1:]][: int(words[-1])]

    found: Dict[int, float] = {}
    end = MIN_TIMESTAMP - 1
    while end < MAX_TIMESTAMP:
        ((timestamps, values), next_end) = ask(Shard(), [points_after("k", end, 2)])[0]
        assert end < next_end
        assert all(end < time <= next_end for time in timestamps)
        assert list(timestamps) == sorted(timestamps)
        found.update(zip(timestamps, values))
        end = next_end
    assert found == model


class TestAddress:
    def test_all_of_it(self) -> None:
        address = parse("valkeys://me:s%40fe@one:7000,[::1]:7001,10.0.0.2:7002")
        assert address.hosts == [("one", 7000), ("::1", 7001), ("10.0.0.2", 7002)]
        assert address.tls
        assert (address.user, address.password) == ("me", "s@fe")

    def test_little_of_it(self) -> None:
        address = parse("redis://localhost:6379")
        assert address == ([("localhost", 6379)], False, None, None)
        assert parse("rediss://x:1").tls

    def test_a_password_from_a_file(self, tmp_path: Any) -> None:
        path = tmp_path / "password"
        path.write_text("se%40cret\nmore\n")
        address = parse("valkey://me@x:1", str(path))
        assert (address.user, address.password) == ("me", "se%40cret")
        with pytest.raises(OpenError, match="cannot read the password"):
            parse("valkey://x:1", str(tmp_path / "nothing"))

    @pytest.mark.parametrize("url", ["valkey://", "valkey://u:geheim@x", "redis://x:y", "x:1"])
    def test_a_wrong_one_is_told_without_its_password(self, url: str) -> None:
        with pytest.raises(OpenError) as error:
            parse(url)
        assert "geheim" not in str(error.value)
        assert "\n" not in str(error.value)


class Indexed:
    """A link to a cluster that has all hashes, and a list of keys with a score for every key."""

    puts_at_a_time = 100

    def __init__(self) -> None:
        self.score = 1.0
        self.added: List[Any] = []  # to that list

    def owners(self) -> List[Any]:
        return [None] * SLOTS

    def run(self, commands: Any) -> List[Any]:
        self.commands = commands
        self.added += [command[-1] for command in commands if command[:2] == [b"ZADD", KEYS_SET]]
        results: Dict[bytes, Any] = {b"EVAL": [], b"ZSCORE": self.score}
        return [results.get(command[0], 1) for command in commands]


def test_a_list_of_keys_that_is_lost_while_another_front_puts_the_same_key() -> None:
    link = Indexed()
    writer = Writer(link)

    def write(*keys: str) -> List[Any]:
        link.added.clear()
        batch = Batch()
        batch.add(list(keys), [1.0] * len(keys), [1] * len(keys))
        writer.write(batch)
        return link.added

    assert write("a", "b") == ["a", "b"]
    assert write("a", "b") == []
    link.score = 2.0  # the other one has put it anew
    assert write("a", "b") == ["a", "b"]
    assert write("a", "b") == []


def test_the_index_has_a_hash_before_its_points_are_stored() -> None:
    """A replica that has the hash has the index too, when it takes its primary's place."""
    link = Indexed()
    batch = Batch()
    batch.add(["a"], [1.0], [1])
    Writer(link).write(batch)
    names = [command[0] for command in link.commands if command[1] != KEYS_SET]
    assert names == [b"ZADD", b"EVAL"]
    assert batch.failed == set()


class Failing(Indexed):
    """It stores so many pieces, and then it is gone."""

    pieces = 10
    hashes: List[int]  # that were to be stored, in each

    def run(self, commands: Any) -> List[Any]:
        stored = [json.loads(command[4]) for command in commands if command[0] == b"EVAL"]
        self.hashes.append(sum(map(len, stored)))
        if len(self.hashes) > self.pieces:
            raise LinkError("gone")
        return super().run(commands)


@pytest.mark.parametrize("pieces, stored", [(4, [True, True]), (3, [True, False])])
def test_a_batch_is_sent_in_pieces(pieces: int, stored: List[bool]) -> None:
    """Others can ask a shard between two of them; what is told of is the whole."""
    link = Failing()
    writer = Writer(link)
    for link.pieces in (10, pieces):  # the second time these keys are in the index
        link.hashes = []
        batch = Batch()
        for first in (0, 200):
            keys = [f"k{first + number}" for number in range(200)]
            batch.add(keys, [1.0] * len(keys), [1] * len(keys))
        writer.write(batch)
    assert link.hashes == [100] * 4
    assert [one for _, _, one in batch.outcomes()] == stored
    assert batch.problem == ("" if all(stored) else "gone")
