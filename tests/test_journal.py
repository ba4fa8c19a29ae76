"""The journal against a disk that fails, and one that forgets: nothing acknowledged is lost."""

import random
from typing import Iterator, Optional

import pytest

from tests.fake_disk import ERRORS, FakeDisk, during, once
from tests.journal_script import TURNS, Points, Run, recovered, same, small


@pytest.fixture(autouse=True)
def _small() -> Iterator[None]:
    with small():
        yield


@pytest.mark.parametrize("policy", ["always", "everysec", "never"])
def test_what_was_put_is_there_again(policy: str) -> None:
    snapshots = 0
    for seed in range(10):
        run = Run(FakeDisk(), policy, seed)
        run.turns()
        snapshots += any(name.endswith(".snapshot") for name in run.disk.files)
        assert same(recovered(run.disk.killed()), run.history[-1])
        run.commit.close()
        assert not run.disk.open_files
        if policy != "never":
            power_failed = run.disk.power_failed(run.dice)
            assert same(recovered(power_failed), run.history[-1])
    assert snapshots >= 5


@pytest.mark.parametrize("policy", ["always", "everysec", "never"])
def test_the_power_fails_after_every_turn(policy: str) -> None:
    """With ``always`` nothing is missing; otherwise what is there was there at some time."""
    for seed in range(20):
        run = Run(FakeDisk(), policy, seed)
        for _ in range(TURNS):
            run.turn()
            found = recovered(run.disk.power_failed(run.dice))
            if policy == "always":
                assert same(found, run.history[-1])
            else:
                assert any(same(found, then) for then in run.history)


def test_everysec_loses_the_last_second_at_most() -> None:
    for seed in range(20):
        run = Run(FakeDisk(), "everysec", seed)
        run.turns(5)
        run.settle()
        safe = len(run.history) - 1
        run.turns(3)
        found = recovered(run.disk.power_failed(run.dice))
        assert any(same(found, then) for then in run.history[safe:])


EVERY_FAULT = [(call, error) for call, errors in ERRORS.items() for error in errors]


@pytest.mark.parametrize(("call", "error"), EVERY_FAULT)
@pytest.mark.parametrize("policy", ["always", "everysec"])
def test_each_use_of_each_call_fails_once(call: str, error: str, policy: str) -> None:
    """Refused puts are never seen, also not later; the next ones are stored again."""
    for use in range(1, 1000):
        disk = FakeDisk()
        run = Run(disk, policy, use)
        disk.uses.clear()
        disk.fails = once(call, use, error)
        run.turns()
        assert sum(run.refused) <= (1 if policy == "always" else 20)
        killed = recovered(disk.killed())
        lost = recovered(disk.power_failed(run.dice))
        if policy == "always":
            assert same(killed, run.history[-1])
            assert same(lost, run.history[-1])
        else:
            assert any(same(lost, then) for then in run.history)
        failures, disk.fails = disk.failures, lambda *_: None
        run.settle()
        run.turn()
        assert not run.refused[-1]
        run.commit.close()
        assert not disk.open_files
        if not failures:
            assert use > 1 or call == "truncate", "it is never called"
            return
    pytest.fail("there is no end of uses")


@pytest.mark.parametrize("policy", ["always", "everysec"])
def test_a_disk_that_is_full_for_a_while(policy: str) -> None:
    calls = ("write", "create")
    for first in range(1, 30, 3):
        disk = FakeDisk()
        run = Run(disk, policy, first)
        disk.uses.clear()
        disk.fails = during(calls, first, first + 8)
        run.turns(2 * TURNS)
        assert any(run.refused)
        assert not run.refused[-1], "puts are not stored again"
        assert same(recovered(disk.killed()), run.history[-1])
        if policy == "always":
            assert same(recovered(disk.power_failed(run.dice)), run.history[-1])
        run.commit.close()


def test_a_server_killed_again_and_again() -> None:
    """Each goes on where the one before was ended, by power or by force."""
    for seed in range(20):
        dice = random.Random(seed)
        disk = FakeDisk()
        history: Optional[Points] = None
        for life in range(6):
            run = Run(disk, "always", 100 * seed + life)
            assert history is None or same(run.history[0], history)
            run.turns(dice.randrange(12))
            history = run.history[-1]
            disk = disk.killed() if dice.random() < 0.5 else disk.power_failed(dice)


class NoRoomForSnapshots(FakeDisk):
    """A disk with room for segments, and no more."""

    attempts = 0

    def write(self, file: int, data: bytes) -> None:
        if self.open_files[file] is self.files.get("snapshot.new"):
            self.attempts += 1
            raise OSError(28, "No space left on device")
        super().write(file, data)


def test_a_snapshot_that_does_not_fit_leaves_nothing_behind(
    caplog: pytest.LogCaptureFixture,
) -> None:
    disk = NoRoomForSnapshots()
    run = Run(disk, "always")
    run.turns(2 * TURNS)
    run.settle()
    for _ in range(600):
        run.clockwork.run(1.0)
        run.background.work()
    assert 5 <= disk.attempts <= 40
    assert not any(run.refused)
    assert set(disk.files) <= {"00000001.log", "00000002.log"}
    assert len(caplog.messages) <= run.clockwork.now / 60 + 1


def test_an_error_that_is_told_again_and_again_does_not_grow() -> None:
    disk = FakeDisk()
    run = Run(disk, "everysec")
    run.turns(3)
    run.commit._journal.distrust(OSError(5, "Input/output error"))
    depths = []
    for _ in range(3):
        with pytest.raises(OSError, match="Input/output error") as caught:
            run.commit._journal.append(b"put k 1 1\n")
        depths.append(len(caught.traceback))
    assert depths[0] == depths[2]


@pytest.mark.parametrize("other", ["create", "write", "rename", "sync_folder", "truncate"])
def test_a_refused_put_stays_away_if_two_calls_fail(other: str) -> None:
    """The sync of a record fails, and then what would have disowned that record."""
    for use in range(1, 40):
        disk = FakeDisk()
        run = Run(disk, "always", use)
        disk.uses.clear()

        def fails(call: str, number: int, disk: FakeDisk = disk, use: int = use) -> Optional[str]:
            if call == "sync":
                return "EIO" if number == use else None
            return "EIO" if call == other and 0 < disk.failures < 3 else None

        disk.fails = fails
        for _ in range(TURNS):
            run.turn()
            assert same(recovered(disk.killed()), run.history[-1])
            assert same(recovered(disk.power_failed(run.dice)), run.history[-1])
