"""Recovery: what is torn is dropped, what is damaged is told, and no point is invented."""

import logging
import random
from typing import Any, Dict, List
from unittest import mock

import pytest

from metricsd import recovery
from metricsd.commit import Commit
from metricsd.journal import JournalError
from metricsd.records import read_records, records_behind, write_record
from metricsd.recovery import SECTOR_BYTES, recover
from metricsd.session import Session
from metricsd.store import Store
from tests.fake_disk import FakeDisk, File, once
from tests.journal_script import Clockwork, Points
from tests.model import points

FIRST, SECOND = "00000001.log", "00000002.log"
BATCHES = 60


def written(policy: str = "always", batches: int = BATCHES) -> FakeDisk:
    """A journal of so many batches, each with one put more than could be mistaken for another."""
    disk = FakeDisk()
    reactor: Any = Clockwork()
    commit = Commit(Store(), reactor, "DIR", policy, "stop", disk.itself)
    for number in range(batches):
        commit.ledger.put("k", number / 3, number)
        commit.run()
    commit.close()
    return disk


def loaded(disk: FakeDisk, damage: str = "stop") -> Points:
    store = Store()
    recover(disk, store, damage)
    return points(store)


def first(count: int) -> Points:
    return {"k": {number: number / 3 for number in range(count)}} if count else {}


def with_file(disk: FakeDisk, name: str, data: bytes) -> FakeDisk:
    later = disk.killed()
    later.files[name] = File()
    later.files[name].safe += data
    return later


def flipped(data: bytes, place: int, mask: int = 0x10) -> bytes:
    return data[:place] + bytes([data[place] ^ mask]) + data[place + 1 :]


def ends(data: bytes) -> List[int]:
    """Where each record ends."""
    found = [end for end, _, _ in read_records(data, 0, len(data))]
    assert found[-1] == len(data)
    return [0, *found]


def test_a_journal_cut_at_every_byte_loads_what_is_whole() -> None:
    disk = written()
    data = disk.read(FIRST)
    whole = ends(data)
    for length in range(len(data) + 1):
        count = max(0, sum(end <= length for end in whole) - 2)  # the first record holds no put
        assert loaded(with_file(disk, FIRST, data[:length])) == first(count)


@pytest.mark.parametrize("mask", [0x01, 0x10, 0x80])
def test_every_flipped_byte_at_the_end_costs_what_follows_it(mask: int) -> None:
    disk = written()
    data = disk.read(FIRST)
    whole = ends(data)
    for place in range(len(data) - SECTOR_BYTES // 2, len(data)):
        count = sum(end <= place for end in whole) - 2
        assert loaded(with_file(disk, FIRST, flipped(data, place, mask))) == first(count)


def test_every_flipped_byte_before_safe_ones_stops_the_start(
    caplog: pytest.LogCaptureFixture,
) -> None:
    disk = written()
    data = disk.read(FIRST)
    whole = ends(data)
    for place in range(len(data) - 2 * SECTOR_BYTES):
        damaged = with_file(disk, FIRST, flipped(data, place))
        before = {name: damaged.read(name) for name in damaged.names()}
        with pytest.raises(JournalError, match=FIRST + " is damaged at byte .*--journal-damage"):
            loaded(damaged)
        assert {name: damaged.read(name) for name in damaged.names()} == before
        missing = sum(end <= place for end in whole) - 2
        expected = first(BATCHES)
        expected["k"].pop(missing, None)
        if place + 1 in whole:  # the line feed before a head: that one is not found either
            del expected["k"][missing + 1]
        assert loaded(damaged, "skip") == expected


@pytest.mark.parametrize("policy", ["always", "never"])
def test_only_what_was_synced_can_be_damaged(policy: str) -> None:
    """Otherwise it may be that the power has failed before all was on the disk."""
    disk = written(policy)
    data = disk.read(FIRST)
    torn = with_file(disk, FIRST, data[:600] + bytes(100) + data[700:])
    if policy == "always":
        with pytest.raises(JournalError):
            loaded(torn)
    else:
        assert loaded(torn) == first(sum(end <= 600 for end in ends(data)) - 2)


def test_a_torn_end_is_told_in_one_line_and_not_written_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    disk = written(batches=3)
    torn = with_file(disk, FIRST, disk.read(FIRST)[:-5])
    reactor: Any = Clockwork()
    store = Store()
    with caplog.at_level(logging.WARNING):
        commit = Commit(store, reactor, "DIR", "always", "stop", torn.itself)
    (line,) = caplog.messages
    assert "dropped" in line
    assert FIRST in line
    commit.ledger.put("k", 9.0, 9)
    commit.run()
    commit.close()
    assert torn.read(FIRST) == disk.read(FIRST)[:-5]
    caplog.clear()
    assert loaded(torn) == {"k": {0: 0.0, 1: 1 / 3, 9: 9.0}}
    assert not caplog.messages


def test_a_missing_segment_stops_the_start() -> None:
    disk = with_file(written(batches=3), FIRST, written(batches=3).read(FIRST)[:-5])
    reactor: Any = Clockwork()
    Commit(Store(), reactor, "DIR", "always", "stop", disk.itself).close()
    assert SECOND in disk.files
    del disk.files[FIRST]
    with pytest.raises(JournalError, match=r"00000001\.log is missing"):
        loaded(disk)
    assert loaded(disk, "skip") == {}


@pytest.mark.parametrize("place", [0, 20, -1, -10, -40])
def test_a_damaged_snapshot_stops_the_start(place: int) -> None:
    disk = FakeDisk()
    lines = b"".join(f"put k {number / 3!r} {number}\n".encode() for number in range(3))
    data = write_record(lines, 0) + write_record(b"end\n", 0)
    assert loaded(with_file(disk, "00000004.snapshot", data)) == first(3)
    with pytest.raises(JournalError, match=r"00000004\.snapshot is"):
        loaded(with_file(disk, "00000004.snapshot", flipped(data, place)))
    with pytest.raises(JournalError, match=r"00000004\.snapshot is"):
        loaded(with_file(disk, "00000004.snapshot", data[:place]))


def test_what_a_snapshot_stands_for_is_removed_and_nothing_else() -> None:
    disk = written(batches=3)
    ours = ["00000002.snapshot", "snapshot.new", "00000003.log.new"]
    others = ["000000001.log", "a.new", "notes.log", "notes.txt", "x.snapshot"]
    for name in ours + others:
        disk = with_file(disk, name, write_record(b"end\n", 0))
    assert loaded(disk) == {}
    assert sorted(disk.names()) == sorted(["00000002.snapshot", *others])


def test_a_damaged_snapshot_beside_what_it_stands_for() -> None:
    """A crash before that was removed, and damage: nothing is deleted, and all of it is loaded."""
    disk = written(batches=3)
    disk = with_file(disk, "00000001.snapshot", b"damage")
    before = sorted(disk.names())
    with pytest.raises(JournalError):
        loaded(disk)
    assert loaded(disk, "skip") == first(3)
    assert sorted(disk.names()) == before


def test_what_looks_like_a_record_in_a_line_is_none() -> None:
    """A client can put any key; if it were found after a torn place, it would be damage."""
    forged = write_record(b"put z 1 1000000\n", 2**40).split(b"\n")[0]
    disk = FakeDisk()
    reactor: Any = Clockwork()
    commit = Commit(Store(), reactor, "DIR", "never", "stop", disk.itself)
    lines = b"put k%s\nput z 1 1000000\n" % forged
    session = Session(commit.ledger)
    said = session.receive(b"put a 1 1\n" + lines)
    assert said == b"ok\n\n" * 3
    commit.run()
    data = disk.read(FIRST)
    assert forged in data
    torn = with_file(disk, FIRST, data[:60] + bytes(40) + data[100:] + bytes(2 * SECTOR_BYTES))
    assert loaded(torn) == {}


def test_what_was_only_read_is_made_safe() -> None:
    """A server without syncs is killed, one that syncs goes on, and then the power fails."""
    for seed in range(30):
        dice = random.Random(seed)
        again = written("never", batches=5).killed()
        if seed % 2:  # its end is torn
            again.files[FIRST].unsafe[-1] = again.files[FIRST].unsafe[-1][:-3]
        store = Store()
        reactor: Any = Clockwork()
        second_life = Commit(store, reactor, "DIR", "always", "stop", again.itself)
        second_life.ledger.put("z", 1.0, 1)
        second_life.run()
        expected = points(store)
        assert len(expected["k"]) == 5 - seed % 2
        assert loaded(again.power_failed(dice)) == expected


def test_a_line_of_another_version_is_told() -> None:
    data = write_record(b"follows 0 0 0\n", 0) + write_record(b"drop k\n", 0)
    with pytest.raises(JournalError, match=r"does not know: b'drop k\\n'"):
        loaded(with_file(FakeDisk(), FIRST, data))


def test_a_long_recovery_says_how_far_it_is(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO), mock.patch.object(
        recovery, "PROGRESS_SECONDS", -1.0
    ), mock.patch.object(recovery, "BLOCK_BYTES", 40):
        loaded(written(batches=5))
    assert [line.split(" in ")[0] for line in caplog.messages] == [
        "journal: 3 puts read",
        "journal: 5 puts read",
        "journal: 5 puts read",
    ]


def test_records() -> None:
    lines: Dict[int, bytes] = {0: b"put a 1 1\n", 7: b"x" * 1000 + b"\n", 2**40: b""}
    data = b"junk\n"
    for synced, text in lines.items():
        data += write_record(text, synced)
    found = list(read_records(data, len("junk\n"), len(data)))
    assert [(int(synced, 16), text) for _, text, synced in found] == list(lines.items())
    ends = [end for end, _, _ in found]
    assert ends[-1] == len(data)
    starts = [len("junk\n"), *ends[:-1]]
    assert list(records_behind(data, 0)) == list(zip(starts, lines))
    assert not list(read_records(data, 0, len(data)))
    assert list(read_records(data, len("junk\n"), len(data) - 1)) == found[:-1]


@pytest.mark.parametrize("use", [1, 2])
def test_what_can_not_be_made_safe_stops_the_start(use: int) -> None:
    """The sync of what was read fails, or that of the segment that is to be written on."""
    disk = written(batches=3).killed()
    disk.fails = once("sync", use, "EIO")
    reactor: Any = Clockwork()
    with pytest.raises(JournalError, match=r"Input/output error; choose a folder"):
        Commit(Store(), reactor, "DIR", "always", "stop", disk.itself)
    assert not disk.open_files
    disk.fails = lambda *_: None
    assert loaded(disk) == first(3)
