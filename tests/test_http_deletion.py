"""DELETE /series: from the store, the file and kept replies; beside puts, sweeps and readers."""

import json
import random
import shutil
import socket
from pathlib import Path
from typing import Any, Dict, List, Set, Tuple

import pytest

from metricsd import Server
from metricsd.http.deletion import KEYS_A_STEP
from metricsd.store import Memory
from tests.conftest import running
from tests.test_http_server import ask

HEADERS = {"X-Metricsd": "delete"}


def put(server: Server, *lines: str) -> None:
    with socket.create_connection(server.address, timeout=10) as client:
        client.sendall("".join(f"put {line}\n" for line in lines).encode())
        said = b""
        while said.count(b"ok\n\n") < len(lines):
            said += client.recv(10000)


def get(server: Server, key: str) -> bytes:
    with socket.create_connection(server.address, timeout=10) as client:
        client.sendall(f"get {key}\n".encode())
        said = b""
        while not said.endswith(b"\n\n"):
            said += client.recv(10000)
        return said


def keys_of(server: Server) -> List[str]:
    return json.loads(ask(server, "/metrics/index.json")[2].decode())  # type: ignore


@pytest.mark.parametrize("stored", ["memory", "sqlite"])
def test_what_a_pattern_means_is_gone(stored: str, quick_path: Path) -> None:
    store = "memory" if stored == "memory" else f"sqlite:{quick_path / 'points.db'}"
    with running("127.0.0.1", 0, http=0, store=store) as server:
        put(server, *[f"old.{number} 1 1" for number in range(KEYS_A_STEP + 10)], "new.1 2 2")
        assert b"old.1 1.0 1" in get(server, "old.1")  # a reply that is kept
        status, headers, body = ask(server, "/series?query=old.*", "DELETE", headers=HEADERS)
        assert (status, headers["Content-Type"]) == (200, "application/json")
        assert json.loads(body.decode()) == {"deleted": KEYS_A_STEP + 10}
        assert get(server, "old.1") == b"ok\n\n"
        assert keys_of(server) == ["new.1"]
        assert not server._dispatcher.kept_replies._kept
        put(server, "old.1 3 3")
        assert keys_of(server) == ["new.1", "old.1"]
        assert get(server, "old.1") == b"ok\nold.1 3.0 3\n\n"
    if stored == "sqlite":
        with running("127.0.0.1", 0, http=0, store=store) as server:
            assert get(server, "old.1") == b"ok\nold.1 3.0 3\n\n"
            assert keys_of(server) == ["new.1", "old.1"]


def test_the_log_tells_of_it_until_a_checkpoint_does(quick_path: Path) -> None:
    """What is in the file at that moment is read by another server, as after a power cut."""
    path = quick_path / "points.db"
    with running("127.0.0.1", 0, http=0, store=f"sqlite:{path}") as server:
        put(server, "a 1 1", "b 1 1", "c 1 1")
        assert ask(server, "/series?query={a,b}", "DELETE", headers=HEADERS)[0] == 200
        put(server, "b 2 2")
        (quick_path / "copy").mkdir()
        for name in ("points.db", "points.db-wal"):
            shutil.copy(str(quick_path / name), str(quick_path / "copy" / name))
    for where in ("copy/points.db", "points.db"):
        with running("127.0.0.1", 0, http=0, store=f"sqlite:{quick_path / where}") as server:
            assert get(server, "*") == b"ok\nc 1.0 1\nb 2.0 2\n\n"


def test_a_disk_that_fails_deletes_nothing(quick_path: Path) -> None:
    path = quick_path / "points.db"
    with running("127.0.0.1", 0, http=0, store=f"sqlite:{path}") as server:
        put(server, "a 1 1")
        path.rename(quick_path / "elsewhere.db")
        status, _, body = ask(server, "/series?query=a", "DELETE", headers=HEADERS)
        assert (status, body) == (503, b"not stored\n")
        assert get(server, "a") == b"ok\na 1.0 1\n\n"
        assert ask(server, "/health")[::2] == (503, b"the disk is full or fails\n")
        (quick_path / "elsewhere.db").rename(path)


@pytest.mark.parametrize(
    "path, headers, status",
    [
        ("/series?query=*", {}, 403), ("/series?query=*", {"X-Metricsd": "yes"}, 403),
        ("/series", HEADERS, 400), ("/series?query=", HEADERS, 400),
        ("/series?query=a&query=b", HEADERS, 400), ("/series?query=b*", HEADERS, 200),
    ],
)  # fmt: skip
def test_it_takes_its_header_and_one_query(path: str, headers: Dict[str, str], status: int) -> None:
    with running("127.0.0.1", 0, http=0) as server:
        put(server, "a 1 1")
        assert ask(server, path, "DELETE", headers=headers)[0] == status
        assert keys_of(server) == ["a"]


def test_no_other_method_deletes() -> None:
    with running("127.0.0.1", 0, http=0) as server:
        put(server, "a 1 1")
        for method in ("GET", "POST", "HEAD"):
            assert ask(server, "/series?query=*", method, headers=HEADERS)[0] == 405
        assert keys_of(server) == ["a"]


@pytest.mark.parametrize("seed", range(20))
def test_memory_beside_a_model(seed: int) -> None:
    """Keys go and come back while sweeps and readers are on their way."""
    dice = random.Random(seed)
    memory = Memory(10**6)
    model: Dict[str, Dict[int, float]] = {}
    sweeps: List[Tuple[int, Any]] = []
    swept: Set[str] = set()
    for number in range(400):
        key = f"k{dice.randrange(30)}"
        action = dice.random()
        if action < 0.6:
            memory.put(key, float(number), number + 1000)
            model.setdefault(key, {})[number + 1000] = float(number)
        elif action < 0.75:
            memory.drop([key, "unknown"])
            model.pop(key, None)
        elif action < 0.8 and not sweeps:
            sweeps.append((number + 900, memory.drop_before(number + 900)))
        elif sweeps:
            oldest, sweep = sweeps[0]
            if next(sweep, swept) is swept:
                sweeps.clear()
        for oldest, _ in sweeps:
            for points in model.values():
                for timestamp in [one for one in points if one < oldest]:
                    del points[timestamp]  # as they will be, at the latest when it ends
        if not sweeps:
            model = {key: points for key, points in model.items() if points}
            found = {key: len(series) for key, series in memory.items()}
            assert found == {key: len(points) for key, points in model.items()}
            assert memory.points == sum(map(len, model.values()))
            assert len(list(memory.items())) == memory.series


def test_late_blocks_of_what_is_gone_are_not_counted() -> None:
    memory = Memory()
    for timestamp in range(0, 2000, 2):
        memory.put("a", 1.0, timestamp)
    memory.put("a", 1.0, 1)
    assert memory.late_blocks == 1
    memory.drop(["a"])
    assert memory.late_blocks == 0
    assert memory.points == 0
