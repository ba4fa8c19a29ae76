"""A server on a durable store, as a user has it: killed, restarted, on a disk that fails."""

import contextlib
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

import pytest

from metricsd import Client, ClientError, OpenError, Server
from tests.conftest import quick_folder, running
from tests.conversation import Conversation
from tests.durable_script import loaded
from tests.test_command_line import COMMAND, ROOT, run

OK = b"ok\n\n"
NOT_STORED = b"error\nnot stored\n\n"

compiler = shutil.which("cc") or shutil.which("gcc")
needs_compiler = pytest.mark.skipif(
    compiler is None or not sys.platform.startswith("linux"),
    reason="a library that lets syncs fail needs a C compiler and Linux",
)


class Process:
    """The program, as soon as it listens."""

    def __init__(self, path: Path, *options: str, **popen: Any) -> None:
        command = [*COMMAND, "--port", "0", "--store", f"sqlite:{path}", *options]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, cwd=str(ROOT), **popen)
        self.log = ""
        try:
            self.port = int(self.until(r"listening on 127\.0\.0\.1:(\d+)").group(1))
        except BaseException:
            self.__exit__()
            raise

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stderr is not None
        self.log += self.process.stderr.read().decode()
        self.process.stderr.close()

    def until(self, pattern: str) -> "re.Match[str]":
        """Read its log until it has said something."""
        assert self.process.stderr is not None
        while True:
            line = self.process.stderr.readline().decode()
            self.log += line
            found = re.search(pattern, line)
            if found or not line:
                assert found, self.log
                return found

    def talk(self) -> Conversation:
        return Conversation(("127.0.0.1", self.port))

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)


@pytest.fixture(name="tmp_path")
def _tmp_path(quick_path: Path) -> Path:
    return quick_path


@pytest.fixture(name="path")
def _path(tmp_path: Path) -> Path:
    return tmp_path / "points.db"


def test_a_session_that_puts_again_behind_a_get_is_not_left_waiting(path: Path) -> None:
    """It goes on when the first put is stored, in a turn after which nobody else wakes the loop."""
    with running(store=f"sqlite:{path}") as server, Conversation(server.address) as client:
        asked = b"put a 1 1\nget a\nput a 2 2\nget a\n"
        assert client.ask(asked, 4) == b"ok\n\nok\na 1.0 1\n\nok\n\nok\na 1.0 1\na 2.0 2\n\n"


def put_until_it_ends(
    process: Process, name: str, acknowledged: Dict[str, int], replies: threading.Semaphore
) -> None:
    """One put after the other, or a few at a time; note how many have been acknowledged."""
    dice = random.Random(name)
    sent = 0
    with contextlib.suppress(OSError, EOFError), process.talk() as client:
        while True:
            count = dice.choice([1, 1, 5])
            numbers = range(sent, sent + count)
            lines = b"".join(b"put %s %d %d\n" % (name.encode(), n, n) for n in numbers)
            sent += count
            assert client.ask(lines, count) == OK * count
            acknowledged[name] = sent
            replies.release()


def load(
    process: Process, life: int, acknowledged: Dict[str, int], enough: int
) -> List[threading.Thread]:
    """Let four clients put; return when there have been so many replies."""
    replies = threading.Semaphore(0)
    names = [f"{life}.{number}" for number in range(4)]
    arguments = [(process, name, acknowledged, replies) for name in names]
    threads = [threading.Thread(target=put_until_it_ends, args=each) for each in arguments]
    for thread in threads:
        thread.start()
    for _ in range(enough):
        assert replies.acquire(timeout=20)
    return threads


def check(found: Dict[str, Dict[int, float]], acknowledged: Dict[str, int]) -> None:
    for name, points in found.items():
        assert list(points.items()) == [(n, float(n)) for n in range(len(points))], "invented"
        assert len(points) >= acknowledged.get(name, 0), "lost"
    assert all(name in found for name in acknowledged), "lost"


@pytest.mark.parametrize("policy", ["always", "everysec", "never"])
def test_killed_under_load_it_has_all_that_it_acknowledged(path: Path, policy: str) -> None:
    """The system lives on, so what was written is there, also if it was not synced."""
    acknowledged: Dict[str, int] = {}
    for life in range(3):
        with Process(path, "--fsync", policy) as process:
            threads = load(process, life, acknowledged, random.Random(life).randrange(20, 200))
            process.process.kill()
            for thread in threads:
                thread.join()
        check(loaded(path), acknowledged)


def test_stopped_under_load_it_has_all_that_it_acknowledged(path: Path) -> None:
    acknowledged: Dict[str, int] = {}
    with Process(path, "--fsync", "never") as process:
        threads = load(process, 0, acknowledged, 100)
        assert process.stop() == 0
        for thread in threads:
            thread.join()
    assert [file.name for file in path.parent.iterdir()] == ["points.db"]
    check(loaded(path), acknowledged)


@contextlib.contextmanager
def limited(path: Path, tmp_path: Path) -> Iterator[Tuple[Path, Any]]:
    """A file that can't grow beyond a limit of the process."""
    yield path, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (150000, 150000))


@contextlib.contextmanager
def small_disk(path: Path, tmp_path: Path) -> Iterator[Tuple[Path, Any]]:
    """A file system of 300 KB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(folder)]
    if subprocess.run(command, stderr=subprocess.DEVNULL).returncode:
        pytest.skip("mounting a small file system takes the rights of root")
    try:
        yield folder / "points.db", None
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("disk", [limited, small_disk])
def test_a_full_disk(path: Path, tmp_path: Path, disk: Any) -> None:
    """What was refused is seen by no get, and not after a restart either."""
    with disk(path, tmp_path) as (file, limit):
        stored: List[int] = []
        refused = 0
        with Process(file, preexec_fn=limit) as process, process.talk() as client:
            for start in range(0, 20000, 250):
                numbers = range(start, start + 250)
                lines = b"".join(b"put k %d %d\n" % (n, n) for n in numbers)
                replies = client.ask(lines, 250)
                assert replies in (OK * 250, NOT_STORED * 250)
                if replies == OK * 250:
                    stored += numbers
                else:
                    refused += 1
                if refused > 3:
                    break
            assert refused > 3 and stored
            rows = b"".join(b"k %d.0 %d\n" % (n, n) for n in stored)
            assert client.ask(b"get k\n") == b"ok\n" + rows + b"\n"
            process.process.kill()
        assert process.log.count("puts are refused") == 1
        if limit is None:
            shutil.copy(str(file), str(path))
            shutil.copy(str(file) + "-wal", str(path) + "-wal")
        assert loaded(path) == {"k": {n: float(n) for n in stored}}


def test_a_disk_that_has_room_again(tmp_path: Path, path: Path) -> None:
    with small_disk(path, tmp_path) as (file, _):
        with Process(file) as process, process.talk() as client:
            assert client.ask(b"put k 1 -1\n") == OK
            filler = file.with_name("filler")
            with open(str(filler), "wb", buffering=0) as full, contextlib.suppress(OSError):
                while True:
                    full.write(b"x" * 4096)
            number = 0
            while client.ask(b"put k 1 %d\n" % number) == OK:
                number += 1
            filler.unlink()
            freed = time.monotonic()
            while client.ask(b"put again 1 1\n") != OK:
                pass
            assert time.monotonic() < freed + 1.0
            assert process.stop() == 0
        assert "puts are stored again" in process.log
        found = loaded(file)
        assert sorted(found) == ["again", "k"] and len(found["k"]) == number + 1


@pytest.mark.parametrize("what", ["file", "wal", "folder", "replaced"])
def test_files_that_somebody_removes(tmp_path: Path, what: str) -> None:
    """Nothing is acknowledged that nobody will find again."""
    folder = tmp_path / "folder"
    folder.mkdir()
    path = folder / "points.db"
    with Process(path) as process, process.talk() as client:
        assert client.ask(b"put k 1 1\n") == OK
        if what == "folder":
            shutil.rmtree(str(folder))
        else:
            Path(str(path) + ("-wal" if what == "wal" else "")).unlink()
        if what == "replaced":
            path.write_bytes(b"")
        assert client.ask(b"put k 1 2\nget k\n", 2) == NOT_STORED + b"ok\nk 1.0 1\n\n"
        process.stop()
    assert "puts are refused" in process.log


class Syncs:
    """How syncs of the store's files go, in a server that is started with ``environment``."""

    def __init__(self, library: Path, folder: Path) -> None:
        self._control = folder / "control"
        self.shadow = folder / "shadow"
        self.shadow.mkdir()
        self.environment = dict(
            os.environ, LD_PRELOAD=str(library), SYNC_CONTROL=str(self._control)
        )

    def go(self, how: str) -> None:
        new = self._control.with_name("new")
        new.write_text(how)
        new.replace(self._control)


@pytest.fixture(scope="module", name="library")
def _library(tmp_path_factory: Any) -> Path:
    library: Path = tmp_path_factory.mktemp("library") / "sync_faults.so"
    source = Path(__file__).with_name("sync_faults.c")
    command = [str(compiler), "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"]
    subprocess.run(command, check=True)
    return library


@pytest.fixture(name="syncs")
def _syncs(library: Path, tmp_path_factory: Any) -> Syncs:
    return Syncs(library, tmp_path_factory.mktemp("syncs"))


def a_sync_that_fails(path: Path, syncs: Syncs) -> None:
    with Process(path, env=syncs.environment) as process, process.talk() as client:
        assert client.ask(b"put k 1 1\n") == OK
        syncs.go("fail")
        assert client.ask(b"get k\nput k 2 2\nget k\nbad\nput k 3 3\nget *\n", 6).split(
            b"\n\n"
        ) == [
            b"ok\nk 1.0 1",
            b"error\nnot stored",
            b"ok\nk 1.0 1",
            b"error\nwrong command",
            b"error\nnot stored",
            b"ok\nk 1.0 1",
            b"",
        ]
        syncs.go("well")
        while client.ask(b"put k 4 4\n") != OK:
            pass
        assert client.ask(b"get k\n") == b"ok\nk 1.0 1\nk 4.0 4\n\n"
    assert loaded(path) == {"k": {1: 1.0, 4: 4.0}}


def a_sync_that_fails_with_everysec(path: Path, syncs: Syncs) -> None:
    options = ("--fsync", "everysec")
    with Process(path, *options, env=syncs.environment) as process, process.talk() as client:
        assert client.ask(b"put k 1 0\n") == OK  # which begins the WAL, and syncs that
        syncs.go("fail")
        assert client.ask(b"put k 1 1\n") == OK
        process.until("the last puts may not be safe")
        assert client.ask(b"put k 2 2\nget k\n", 2) == NOT_STORED + b"ok\nk 1.0 0\nk 1.0 1\n\n"
        syncs.go("well")
        while client.ask(b"put k 3 3\n") != OK:
            pass
        process.process.kill()
    assert loaded(path) == {"k": {0: 1.0, 1: 1.0, 3: 3.0}}


def everysec_syncs_within_a_second(path: Path, syncs: Syncs) -> None:
    environment = dict(syncs.environment, SYNC_SHADOW=str(syncs.shadow))
    wal = syncs.shadow / "points.db-wal"
    with Process(path, "--fsync", "everysec", env=environment) as process:
        with process.talk() as client:
            assert client.ask(b"put k 1 0\nput k 1 1\n", 2) == OK * 2
            for number in range(3):
                key = b"key.%d" % number
                assert client.ask(b"put %s 1 1\n" % key) == OK
                put = time.monotonic()
                while key not in wal.read_bytes():
                    assert time.monotonic() < put + 1.0


@pytest.fixture(scope="module", name="waiting")
def _waiting(library: Path) -> Iterator[Dict[str, "Future[None]"]]:
    """What mostly waits for a second to pass or a disk to get well, beside each other."""
    bodies = (a_sync_that_fails, a_sync_that_fails_with_everysec, everysec_syncs_within_a_second)
    with quick_folder() as folder, ThreadPoolExecutor(len(bodies)) as threads:
        futures = {}
        for body in bodies:
            own = folder / body.__name__
            own.mkdir()
            futures[body.__name__] = threads.submit(body, own / "points.db", Syncs(library, own))
        yield futures


@needs_compiler
@pytest.mark.parametrize(
    "body",
    ["a_sync_that_fails", "a_sync_that_fails_with_everysec", "everysec_syncs_within_a_second"],
)
def test_syncs(body: str, waiting: Dict[str, "Future[None]"]) -> None:
    waiting[body].result()


@needs_compiler
def test_a_sync_that_takes_long_holds_up_no_get(path: Path, syncs: Syncs) -> None:
    with Process(path, env=syncs.environment) as process:
        with process.talk() as putter, process.talk() as reader:
            assert putter.ask(b"put k 1 1\n") == OK
            syncs.go("slow")
            puts, took = 10, []
            sent = threading.Thread(
                target=lambda: [putter.ask(b"put k 1 %d\n" % n) for n in range(puts)]
            )
            sent.start()
            while sent.is_alive():
                started = time.perf_counter()
                reader.ask(b"get nobody\n")
                took.append(time.perf_counter() - started)
            sent.join()
    took.sort()
    assert len(took) > 200 and took[len(took) * 99 // 100] < 0.02


@needs_compiler
def test_a_power_cut(path: Path, syncs: Syncs, tmp_path: Path) -> None:
    """With always, what was synced when the power fails is all that was acknowledged."""
    environment = dict(syncs.environment, SYNC_SHADOW=str(syncs.shadow))
    acknowledged: Dict[str, int] = {}
    with Process(path, env=environment) as process:
        threads = load(process, 0, acknowledged, 150)
        process.process.kill()
        for thread in threads:
            thread.join()
    names = ("points.db", "points.db-wal")
    cut = tmp_path / "cut"
    cut.mkdir()
    for name in names:
        shutil.copy(str(syncs.shadow / name), str(cut / name))
    check(loaded(cut / "points.db"), acknowledged)


def test_in_python(path: Path) -> None:
    with running(store=f"sqlite:{path}") as server, Client(*server.address) as client:
        client.put("k", 1, 1)
        with pytest.raises(OpenError, match="another server uses it"):
            Server("127.0.0.1", 0, store=f"sqlite:{path}")
    with running(store=f"sqlite:{path}", max_points=1) as server:
        with Client(*server.address) as client:
            assert client.get("k") == {"k": [(1, 1.0)]}
            client.put("k", 2, 1)
            with pytest.raises(ClientError, match="store is full"):
                client.put("k", 2, 2)


def test_salvage_of_what_is_whole_is_a_start_like_any(path: Path) -> None:
    for _ in range(2):
        with running(store=f"sqlite:{path}", salvage=True) as server:
            with Client(*server.address) as client:
                client.put("k", 1, 1)
    assert [file.name for file in path.parent.iterdir()] == ["points.db"]


def test_a_start_that_is_refused_is_one_clear_line(path: Path) -> None:
    path.write_bytes(b"")
    code, said = run("--port", "0", "--store", f"sqlite:{path}")
    assert code == 1 and said.count("\n") == 1
    assert said.startswith(f"metricsd: cannot use {path}: it is empty")


def test_retention(path: Path) -> None:
    clock = lambda: 1000.0  # noqa: E731
    with running(store=f"sqlite:{path}") as server, Client(*server.address) as client:
        client.put("old", 1, 1)
        client.put("new", 1, 1000)
    options: Dict[str, Any] = {"retention": 500, "wall_clock": clock}
    with running(store=f"sqlite:{path}", **options) as server, Client(*server.address) as client:
        assert client.get("*") == {"new": [(1000, 1.0)]}
        client.put("new", 1, 1001)
    assert loaded(path) == {"new": {1000: 1.0, 1001: 1.0}}
