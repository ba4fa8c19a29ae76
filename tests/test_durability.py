"""A server with a journal, as a user has it: killed, restarted, on a disk that is full."""

import contextlib
import os
import random
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple
from unittest import mock

import pytest

import metricsd
from metricsd import Client, Server, commit, compaction, everysecond
from metricsd.journal import JournalError
from tests.conftest import running
from tests.conversation import Conversation, connect, free_port
from tests.test_command_line import COMMAND, ROOT, run

OK = b"ok\n\n"
NOT_STORED = b"error\nnot stored\n\n"


@contextlib.contextmanager
def journaled(
    folder: Path, *options: str, **popen: Any
) -> Iterator[Tuple["subprocess.Popen[bytes]", int]]:
    """The program with a journal, as soon as it listens."""
    port = free_port()
    command = [*COMMAND, "--port", str(port), "--journal", str(folder), *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, cwd=str(ROOT), **popen) as process:
        try:
            connect(port).socket.close()
            yield process, port
        finally:
            process.kill()


def put_until_it_ends(
    port: int, name: str, acknowledged: Dict[str, int], replies: threading.Semaphore
) -> None:
    """One put after the other, or a few at a time; note how many have been acknowledged."""
    dice = random.Random(name)
    sent = 0
    with contextlib.suppress(OSError, EOFError), Conversation(("127.0.0.1", port)) as client:
        while True:
            count = dice.choice([1, 1, 5])
            numbers = range(sent, sent + count)
            lines = b"".join(b"put %s %d %d\n" % (name.encode(), n, n) for n in numbers)
            sent += count
            assert client.ask(lines, count) == OK * count
            acknowledged[name] = sent
            replies.release()


def wait_for(replies: threading.Semaphore, count: int) -> None:
    for _ in range(count):
        assert replies.acquire(timeout=20)


def size(folder: Path) -> int:
    found = 0
    for path in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):  # it has just been replaced
            found += path.stat().st_size
    return found


def check(port: int, acknowledged: Dict[str, int]) -> None:
    with Client("127.0.0.1", port, timeout=20) as client:
        there = client.get("*")
    for name, found in there.items():
        assert found == [(n, float(n)) for n in range(len(found))], "invented, or a gap"
        assert len(found) >= acknowledged.get(name, 0), "lost"
    assert all(name in there for name in acknowledged)


@pytest.mark.parametrize("policy", ["always", "everysec", "never"])
def test_killed_under_load_it_has_all_that_it_acknowledged(tmp_path: Path, policy: str) -> None:
    """The system lives on, so what was written is there, also if it was not synced."""
    acknowledged: Dict[str, int] = {}
    for life in range(5):
        with journaled(tmp_path, "--fsync", policy) as (process, port):
            check(port, acknowledged)
            names = [f"{life}.{number}" for number in range(4)]
            replies = threading.Semaphore(0)
            arguments = [(port, name, acknowledged, replies) for name in names]
            threads = [threading.Thread(target=put_until_it_ends, args=a) for a in arguments]
            for thread in threads:
                thread.start()
            wait_for(replies, random.Random(life).randrange(20, 200))
            process.kill()
            for thread in threads:
                thread.join()
    with journaled(tmp_path) as (_, port):
        check(port, acknowledged)


def test_stopped_under_load_it_has_all_that_it_acknowledged(tmp_path: Path) -> None:
    acknowledged: Dict[str, int] = {}
    with journaled(tmp_path, "--fsync", "never") as (process, port):
        replies = threading.Semaphore(0)
        arguments = (port, "k", acknowledged, replies)
        thread = threading.Thread(target=put_until_it_ends, args=arguments)
        thread.start()
        wait_for(replies, 100)
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
        thread.join()
    with journaled(tmp_path) as (_, port):
        check(port, acknowledged)


def test_a_full_disk(tmp_path: Path) -> None:
    """No file may grow beyond 4,000 bytes. The next one has room again."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))

    stored: List[int] = []
    refused = 0
    with journaled(tmp_path, preexec_fn=limit) as (process, port):
        with Conversation(("127.0.0.1", port)) as client:
            for number in range(400):
                reply = client.ask(b"put k %d %d\n" % (number, number))
                assert reply in (OK, NOT_STORED)
                refused += reply == NOT_STORED
                if reply == OK:
                    stored.append(number)
                rows = b"".join(b"k %d.0 %d\n" % (n, n) for n in stored)
                assert client.ask(b"get k\n") == b"ok\n" + rows + b"\n"
        assert 1 <= refused < 40
        process.kill()
        assert process.stderr is not None
        log = process.stderr.read().decode()
    assert re.findall("refused until it can be written: .*File too large", log)
    assert len(log.splitlines()) == 3, "a line for each refusal"
    with journaled(tmp_path) as (_, port), Client("127.0.0.1", port) as reader:
        assert [timestamp for timestamp, _ in reader.get("k")["k"]] == stored


def test_one_owner(tmp_path: Path) -> None:
    with journaled(tmp_path):
        code, said = run("--port", "0", "--journal", str(tmp_path))
        assert code == 1
        assert said == (
            f"metricsd: cannot use the journal in {tmp_path}: another server uses it; stop that "
            "one, or choose another folder\n"
        )
    with journaled(tmp_path):
        pass  # the lock of one that was killed is gone


@pytest.mark.parametrize("name", ["file", "file/below", "nul\0"])
def test_a_folder_that_can_not_be_used_is_one_clear_line(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("")
    if "\0" in name:
        with pytest.raises(JournalError):
            Server("127.0.0.1", 0, journal=str(tmp_path / name))
        return
    code, said = run("--port", "0", "--journal", str(tmp_path / name))
    assert code == 1
    assert said.startswith(f"metricsd: cannot use the journal in {tmp_path / name}: ")
    assert said.count("\n") == 1
    assert "choose a folder" in said


def test_damage_is_one_clear_line(tmp_path: Path) -> None:
    with running(journal=str(tmp_path)) as server, Client(*server.address) as client:
        for number in range(50):
            client.put("k", number, number)
    path = tmp_path / "00000001.log"
    data = path.read_bytes()
    path.write_bytes(data[:200] + b"X" + data[201:])
    code, said = run("--port", "0", "--journal", str(tmp_path))
    assert code == 1
    assert said.count("\n") == 1
    assert "00000001.log is damaged at byte " in said
    assert "--journal-damage skip" in said
    for options in (["--journal-damage", "skip"], []):  # after the first there is a snapshot
        with journaled(tmp_path, *options) as (_, port):
            with Client("127.0.0.1", port) as reader:
                assert len(reader.get("k")["k"]) == 49
                while not list(tmp_path.glob("*.snapshot")):
                    assert len(reader.get("k")["k"]) == 49


@pytest.mark.skipif(os.name != "posix", reason="modes are those of POSIX")
def test_nobody_else_may_read_it(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "journal"
    with running(journal=str(folder)) as server, Client(*server.address) as client:
        client.put("k", 1, 1)
    assert folder.stat().st_mode & 0o777 == 0o700
    files = list(folder.iterdir())
    assert len(files) >= 2
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in files)


def test_a_disk_that_fails_and_works_again(tmp_path: Path) -> None:
    """What was refused is never seen, neither by gets nor after a restart."""
    broken = OSError(5, "Input/output error")
    with running(journal=str(tmp_path)) as server, Conversation(server.address) as client:
        assert client.ask(b"put k 1 1\n") == OK
        with mock.patch("os.fsync", side_effect=broken):
            said = client.ask(b"get k\nput k 2 2\nget k\nbad\nput k 3 3\nput k 1\nget *\n", 7)
        assert said.split(b"\n\n") == [
            b"ok\nk 1.0 1",
            b"error\nnot stored",
            b"ok\nk 1.0 1",
            b"error\nwrong command",
            b"error\nnot stored",
            b"error\nwrong command",
            b"ok\nk 1.0 1",
            b"",
        ]
        while client.ask(b"put k 4 4\n") != OK:
            pass
        assert client.ask(b"get k\n") == b"ok\nk 1.0 1\nk 4.0 4\n\n"
    with running(journal=str(tmp_path)) as server, Conversation(server.address) as client:
        assert client.ask(b"get k\n") == b"ok\nk 1.0 1\nk 4.0 4\n\n"


def test_everysec_waits_for_no_disk(tmp_path: Path) -> None:
    release, reached = threading.Event(), threading.Event()

    def stuck(_file: int) -> None:
        reached.set()
        release.wait(30)

    with running(journal=str(tmp_path), fsync="everysec") as server:
        with mock.patch("os.fsync", stuck), Conversation(server.address) as client:
            assert client.ask(b"put k 1 1\n") == OK
            assert reached.wait(10)
            for number in range(100):
                assert client.ask(b"put k 1 %d\nget k\n" % number, 2).count(b"ok\n") == 2
            release.set()


def test_a_disk_that_hangs_does_not_hold_up_the_end(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    release = threading.Event()
    with mock.patch.object(commit, "CLOSE_SECONDS", 0.1), mock.patch.object(
        everysecond, "SYNC_PAUSE", 0.0
    ):
        with running(journal=str(tmp_path), fsync="everysec") as server:
            with Conversation(server.address) as client:
                with mock.patch("os.fsync", side_effect=lambda _: release.wait(30)):
                    assert client.ask(b"put k 1 1\n") == OK
                    server.close()
                    release.set()
    assert "journal: the disk does not answer; the last puts may not be safe" in caplog.messages


def test_it_serves_on_when_the_main_thread_has_ended(tmp_path: Path) -> None:
    program = f"""
import os, threading
from metricsd import Server, everysecond
everysecond.SYNC_PAUSE = everysecond.SYNC_LOOK = 0.0
server = Server("127.0.0.1", 0, journal={str(tmp_path)!r}, fsync="everysec")
sync = os.fsync
os.fsync = lambda file: (sync(file), print("synced", flush=True))
def serve():
    threading.main_thread().join()
    server.serve_forever()
threading.Thread(target=serve).start()
print(server.address[1], flush=True)
"""
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=str(ROOT)) as process:
        try:
            assert process.stdout is not None
            with connect(int(process.stdout.readline())) as client:
                for number in range(5):
                    assert client.ask(b"put k 1 %d\n" % number) == OK
                    for _ in ("the file", "the folder"):
                        assert process.stdout.readline() == b"synced\n"
        finally:
            process.kill()


def test_a_torn_end_on_a_full_disk(tmp_path: Path) -> None:
    """Points can be read, and puts are refused until there is room for another segment."""
    with running(journal=str(tmp_path)) as server, Client(*server.address) as writer:
        writer.put("k", 1, 1)
        writer.put("k", 2, 2)
    path = tmp_path / "00000001.log"
    path.write_bytes(path.read_bytes()[:-3])
    with contextlib.ExitStack() as full:
        full.enter_context(mock.patch("os.write", side_effect=OSError(28, "No space left")))
        with running(journal=str(tmp_path)) as server, Conversation(server.address) as client:
            assert client.ask(b"get k\nput k 3 3\n", 2) == b"ok\nk 1.0 1\n\n" + NOT_STORED
            full.close()
            while client.ask(b"put k 3 3\n") != OK:
                pass


def test_a_relative_folder_stays_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with running(journal="here") as server, Client(*server.address) as client:
        monkeypatch.chdir("/")
        with mock.patch.object(compaction, "WORTHWHILE_BYTES", 1):
            client.put("k", 1, 1)
            client.put("k", 2, 1)
    assert (tmp_path / "here").is_dir()


@pytest.mark.parametrize("policy", ["always", "everysec", "never"])
def test_it_does_not_grow_without_end(tmp_path: Path, policy: str) -> None:
    with mock.patch.object(compaction, "WORTHWHILE_BYTES", 20000), running(
        journal=str(tmp_path), fsync=policy
    ) as server, Client(*server.address) as client:
        for value in range(100):
            client.put_many([(f"k{n % 7}", value, n) for n in range(50)])
        expected = client.get("*")
        deadline = time.monotonic() + 20
        while size(tmp_path) > 45000:
            client.put("k0", 99, 0)
            assert time.monotonic() < deadline, "no snapshot"
    assert any(path.suffix == ".snapshot" for path in tmp_path.iterdir())
    with running(journal=str(tmp_path)) as server, Client(*server.address) as client:
        assert client.get("*") == expected
        assert list(client.get("*")) == list(expected)


def test_with_a_limit_of_points(tmp_path: Path) -> None:
    full = b"error\nstore is full\n\n"
    with running(journal=str(tmp_path), max_points=2) as server:
        with Conversation(server.address) as client:
            said = client.ask(b"put a 1 1\nput a 2 1\nput a 2 2\nput a 3 3\nput a 5 2\n", 5)
            assert said == OK * 3 + full + OK
    with running(journal=str(tmp_path), max_points=2) as server:
        with Conversation(server.address) as client:
            assert client.ask(b"put a 4 4\nput a 6 1\n", 2) == full + OK
    with running(journal=str(tmp_path), max_points=1) as server:
        with Conversation(server.address) as client:
            assert client.ask(b"get a\nput a 4 4\n", 2) == b"ok\na 6.0 1\na 5.0 2\n\n" + full


def test_with_retention(tmp_path: Path) -> None:
    now = [1000.0]
    clock: Any = lambda: now[0]  # noqa: E731
    limits: Any = {"journal": str(tmp_path), "retention": 60, "max_points": 2, "wall_clock": clock}
    with running(**limits) as server, Conversation(server.address) as client:
        assert client.ask(b"put a 1 990\nput b 1 1000\n", 2) == OK * 2
    now[0] += 55
    with running(**limits) as server, Conversation(server.address) as client:
        assert client.ask(b"get *\nput b 2 1010\n", 2) == b"ok\nb 1.0 1000\n\n" + OK
    now[0] += 10
    with running(**limits) as server, Conversation(server.address) as client:
        assert client.ask(b"get *\n") == b"ok\nb 2.0 1010\n\n"


def test_hostile_floats_and_keys_come_back(tmp_path: Path) -> None:
    requests = [
        "put nan nan 1", "put inf -inf -9223372036854775808", "put zero -0 9223372036854775807",
        "put tiny 5e-324 1", "put long 0.1000000000000000055511151231257827 1", "put % 1_000 007",
        "put \u0665 \u0661.\u0665 \u0662", "  put   spaced\t 1\v1  ", "put \0 1 1", "put # 1 1",
        "put follows 1 1", "put put 1 1",
    ]  # fmt: skip
    lines = "".join(request + "\r\n" for request in requests).encode()
    with running(journal=str(tmp_path)) as server, Conversation(server.address) as client:
        assert client.ask(lines, len(requests)) == OK * len(requests)
        for request in requests:
            assert client.ask(request.encode() + b"\n") == OK
        expected = client.ask(b"get *\n")
    with running(journal=str(tmp_path)) as server, Conversation(server.address) as client:
        assert client.ask(b"get *\n") == expected


def test_bad_policies_are_refused(tmp_path: Path) -> None:
    for policies in ({"fsync": "sometimes"}, {"journal_damage": "ignore"}):
        limits: Any = dict(policies, journal=str(tmp_path))
        with pytest.raises(ValueError, match="one of their policies"):
            Server("127.0.0.1", 0, **limits)
    code, said = run("--fsync", "sometimes")
    assert code == 2
    assert said.count("\n") == 1


def test_a_port_in_use_leaves_the_folder_free(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(metricsd.listener.ListenError):
            Server("127.0.0.1", taken.getsockname()[1], journal=str(tmp_path))
    with running(journal=str(tmp_path)):
        pass


def test_a_start_that_fails_leaves_no_thread(tmp_path: Path) -> None:
    before = threading.active_count()
    with running(journal=str(tmp_path)):
        during = threading.active_count()
        with pytest.raises(JournalError, match="another server uses it"):
            Server("127.0.0.1", 0, journal=str(tmp_path))
        with pytest.raises(JournalError, match="Not a directory"):
            Server("127.0.0.1", 0, journal=str(tmp_path / "lock" / "below"))
        assert threading.active_count() == during
    assert threading.active_count() == before


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    if not sys.platform.startswith("linux"):
        pytest.skip("counts in /proc")
    before = len(os.listdir("/proc/self/fd"))
    for policy in ("always", "everysec"):
        with mock.patch.object(compaction, "WORTHWHILE_BYTES", 100), running(
            journal=str(tmp_path / policy), fsync=policy
        ) as server, Client(*server.address) as client:
            for number in range(30):
                client.put("k", number, 1)
    assert len(os.listdir("/proc/self/fd")) == before
