"""Load a metrics server and report requests/s, latencies and the server's CPU a request.

    python3 bench/load.py --clients 50 --pipeline 1 --seconds 5 --pid PID

Without --rate each client sends its next requests when it has the replies to the last ones (a
closed loop): while the server stalls nothing is sent, so a stall counts as a few slow requests
however long it is. With --rate, requests are due at fixed times, and latency counts from when each
was due.
"""

import argparse
import json
import multiprocessing
import os
import selectors
import socket
import sys
import time
from array import array
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Tuple

from workload import MIXES, Block, Workload

RECEIVE_BYTES = 1 << 18
REPLY_SECONDS = 10.0  # a reply that takes longer is missing
PROGRESS_SECONDS = 1.0
LOOK_SECONDS = 2.0  # for a first look at what the server holds
WARNING_SECONDS = 3.0
PERCENTILES = (50.0, 90.0, 99.0, 99.9, 100.0)


class LoadError(Exception):
    """The run can't go on, or its result is not one: no server, a wrong or a missing reply."""


class Job(NamedTuple):
    """A load: what is sent, by how many clients, for how long."""

    host: str = "127.0.0.1"
    port: int = 8888
    clients: int = 50
    pipeline: int = 1
    requests: Optional[int] = None  # in all; None: until seconds are over
    seconds: float = 5.0
    mix: str = "put"
    keys: int = 100
    points: int = 100  # in each key that is read
    rate: Optional[float] = None  # requests/s in all; None: a closed loop
    protocol: str = "metricsd"


class Result(NamedTuple):
    """What a run showed. Latencies are in seconds, one for each block of pipelined requests."""

    requests: int
    wrong: int
    seconds: float
    latencies: "array[float]"


class LoadClient:
    """One connection with at most one block of requests under way."""

    def __init__(self, job: Job, workload: Workload) -> None:
        self.socket = socket.create_connection((job.host, job.port), REPLY_SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.workload = workload
        self.blocks = workload.blocks()
        self.due = 0.0  # when the block under way was due
        self._block: Optional[Block] = None
        self._unsent = b""
        self._right = 0  # bytes of the replies that have come and are as they should be
        self._other = b""  # what came after them and is not

    def send(self, block: Block, due: float) -> bool:
        """Send a block; return whether all of it went out."""
        self.due = due
        self._block = block
        self._right = 0
        self._other = b""
        self._unsent = block.requests
        return self.send_rest()

    def send_rest(self) -> bool:
        """Send what did not fit before; return whether all of it went out."""
        try:
            sent = self.socket.send(self._unsent)
        except BlockingIOError:
            sent = 0
        self._unsent = self._unsent[sent:]
        return not self._unsent

    def receive(self) -> Optional[int]:
        """Receive; None until all replies are there, then how many of them are wrong."""
        data = self.socket.recv(RECEIVE_BYTES)
        if not data:
            raise LoadError("the server closed the connection")
        block = self._block
        if block is None:
            raise LoadError(f"a reply that nobody asked for: {data[:60]!r}")
        wrong: Optional[int] = None
        if not self._other and block.replies.startswith(data, self._right):
            self._right += len(data)
            wrong = 0 if self._right == len(block.replies) else None
        else:
            self._other += data
            received = block.replies[: self._right] + self._other
            if not block.any_order and not received.startswith((b"ok\n", b"error\n")):
                raise LoadError(f"this is no reply of a metrics server: {received[:60]!r}")
            wrong = block.wrong(received)
        if wrong is not None:
            self._block = None
        return wrong


def run(job: Job, part: str, wait: Callable[[], None], progress: Any) -> Result:
    """Run a job with the clients of one process, whose keys are named after ``part``.

    ``wait`` is called between the preparations and what is measured; ``progress.value`` counts.
    """
    clients = _connect(job, part)
    try:
        for client in clients:
            _store(client)
            client.socket.setblocking(False)
        wait()
        with selectors.DefaultSelector() as selector:
            for client in clients:
                selector.register(client.socket, selectors.EVENT_READ, client)
            return _drive(job, clients, selector, progress)
    except OSError as error:
        raise LoadError(str(error)) from error
    finally:
        for client in clients:
            client.socket.close()


def _connect(job: Job, part: str) -> List[LoadClient]:
    clients: List[LoadClient] = []
    keys = max(1, job.keys // job.clients)
    try:
        for number in range(job.clients):
            name = f"load.{part}.{number}"
            workload = Workload(job.protocol, job.mix, name, keys, job.pipeline, job.points)
            clients.append(LoadClient(job, workload))
    except OSError as error:
        for client in clients:
            client.socket.close()
        where = f"{job.host}:{job.port}"
        raise LoadError(f"no server at {where} ({error}); start one or say --port") from error
    return clients


def _store(client: LoadClient) -> None:
    """Store what will be read, before anything is measured."""
    for block in client.workload.setup():
        client.socket.sendall(block.requests)
        received = b""
        while len(received) < len(block.replies) and block.replies.startswith(received):
            data = client.socket.recv(RECEIVE_BYTES)
            if not data:
                raise LoadError("the server closed the connection")
            received += data
        if received != block.replies:
            raise LoadError(f"a wrong reply while storing: {received[:100]!r}")


class _Schedule:
    """When each block is due: at once in a closed loop, at fixed times with a rate."""

    def __init__(self, job: Job, started: float) -> None:
        self._interval = job.pipeline / job.rate if job.rate else 0.0
        self._started = started
        self._end = sys.float_info.max
        self._blocks = sys.maxsize
        self._taken = 0
        if job.requests is not None:
            self._blocks = -(-job.requests // job.pipeline)
        elif self._interval:  # a count: sums of fractions of seconds end now before, now after
            self._blocks = round(job.seconds / self._interval)
        else:
            self._end = started + job.seconds

    def next_due(self, now: float) -> Optional[float]:
        """When the next block is due; None when there are no more."""
        due = self._started + self._taken * self._interval if self._interval else now
        return due if self._taken < self._blocks and due < self._end else None

    def take(self) -> None:
        self._taken += 1


def _drive(
    job: Job, clients: List[LoadClient], selector: selectors.BaseSelector, progress: Any
) -> Result:
    clock = time.perf_counter
    latencies = array("d")
    wrong = 0
    started = now = last_reply = clock()
    schedule = _Schedule(job, started)
    free = clients[::-1]
    while True:
        due = schedule.next_due(now)
        while free and due is not None and due <= now:
            client = free.pop()
            schedule.take()
            if not client.send(next(client.blocks), due):
                selector.modify(client.socket, selectors.EVENT_READ | selectors.EVENT_WRITE, client)
            due = schedule.next_due(now)
        if len(free) == len(clients):
            if due is None:
                break
            last_reply = now
        # A selector counts in milliseconds: with less than that to wait, look without waiting.
        patience = 0.1 if due is None or not free else max(due - now - 0.002, 0)
        for key, events in selector.select(min(patience, 0.1)):
            client = key.data
            if events & selectors.EVENT_WRITE and client.send_rest():
                selector.modify(client.socket, selectors.EVENT_READ, client)
            if events & selectors.EVENT_READ:
                wrong_here = client.receive()
                if wrong_here is not None:
                    last_reply = clock()
                    latencies.append(last_reply - client.due)
                    wrong += wrong_here
                    free.append(client)
        now = clock()
        if now - last_reply > REPLY_SECONDS:
            raise LoadError(f"no reply within {REPLY_SECONDS:g} s")
        progress.value = len(latencies) * job.pipeline
    return Result(len(latencies) * job.pipeline, wrong, now - started, latencies)


class _Part:
    """A process that does its share of a job, and the pipe to it."""

    def __init__(self, job: Job, name: str) -> None:
        self.done = multiprocessing.Value("l", 0, lock=False)
        self._pipe, theirs = multiprocessing.Pipe()
        arguments = (job, name, self.done, theirs)
        self._process = multiprocessing.Process(target=_work, args=arguments, daemon=True)
        self._process.start()
        theirs.close()

    def go(self) -> None:
        """Begin what is measured."""
        self._pipe.send(None)

    def finished(self, seconds: float) -> bool:
        """Wait so long for an outcome; return whether there is one."""
        return self._pipe.poll(seconds)

    def outcome(self) -> Any:
        """None when the preparations are done, then a Result. Raises LoadError."""
        try:
            outcome = self._pipe.recv()
        except EOFError:
            raise LoadError("a load process died") from None
        if isinstance(outcome, LoadError):
            raise outcome
        return outcome


def _work(job: Job, name: str, done: Any, pipe: Any) -> None:
    def wait() -> None:
        pipe.send(None)
        pipe.recv()

    try:
        pipe.send(run(job, name, wait, done))
    except LoadError as error:
        pipe.send(error)
    except (KeyboardInterrupt, EOFError):
        pass


def _share(job: Job, processes: int, number: int) -> Job:
    """The part of a job that one of several processes does."""

    def part(total: int) -> int:
        return total // processes + (number < total % processes)

    return job._replace(
        clients=part(job.clients),
        keys=max(1, part(job.keys)),
        requests=part(-(-job.requests // job.pipeline)) * job.pipeline if job.requests else None,
        rate=job.rate / processes if job.rate else None,
    )


def cpu_seconds(pid: int) -> Optional[Tuple[float, float]]:
    """User and system time of a process so far, all threads, from the operating system (Linux).

    It counts both in hundredths of a second, and their sum in nanoseconds, if it is asked for that.
    """
    try:
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return None
    ticks = os.sysconf("SC_CLK_TCK")  # proc(5): utime and stime, fields 14 and 15
    user, system = int(fields[11]) / ticks, int(fields[12]) / ticks
    try:
        total = time.clock_gettime(
            ~pid << 3 | 2
        )  # as the C library's clock_getcpuclockid(3) has it
    except OSError:
        return user, system
    share = user / (user + system) if user + system else 1.0
    return total * share, total * (1 - share)


def percentiles(latencies: "array[float]") -> Iterator[Tuple[float, float]]:
    """Pairs of a percentage and the latency that so many of the requests did not exceed."""
    ordered = sorted(latencies)
    for percent in PERCENTILES:
        place = min(int(len(ordered) * percent / 100), len(ordered) - 1)
        yield percent, ordered[place]


def summary(job: Job, result: Result, cpu: Optional[Tuple[float, float]]) -> Dict[str, Any]:
    """The figures of a run. Latencies in milliseconds, CPU in microseconds a request."""
    figures: Dict[str, Any] = {
        "requests": result.requests,
        "wrong": result.wrong,
        "seconds": round(result.seconds, 3),
        "requests_per_second": round(result.requests / result.seconds),
        "loop": "open" if job.rate else "closed",
    }
    for percent, latency in percentiles(result.latencies):
        figures["worst_ms" if percent == 100 else f"p{percent:g}_ms"] = round(latency * 1e3, 3)
    if cpu is not None:
        user, system = (seconds / result.requests * 1e6 for seconds in cpu)
        figures["server_user_us"] = round(user, 3)
        figures["server_system_us"] = round(system, 3)
        figures["server_cpu_us"] = round(user + system, 3)
    return figures


def other_key(job: Job) -> Optional[str]:
    """A key in the server that no load has put there; None if a first look finds none."""
    if job.protocol != "metricsd":
        return None
    try:
        with socket.create_connection((job.host, job.port), LOOK_SECONDS) as sock:
            sock.sendall(b"get *\n")
            lines = sock.recv(RECEIVE_BYTES).split(b"\n")
    except OSError:
        return None  # the load itself will say what is wrong
    rows = lines[1:-1] if lines[0] == b"ok" else []  # the last one may be cut off
    keys = [row.split(b" ")[0] for row in rows if row and not row.startswith(b"load.")]
    return keys[0].decode("utf-8", "replace") if keys else None


def _warn(job: Job, key: str) -> None:
    """Say what a load leaves behind, and give who sees it the time to think again."""
    print(
        f"load: {job.host}:{job.port} holds other keys, such as {key!r}; this load adds series of "
        "its own, load.*, and nothing takes them out again",
        file=sys.stderr,
    )
    if sys.stderr.isatty():
        print(f"load: it begins in {WARNING_SECONDS:g} s; Ctrl-C ends it", file=sys.stderr)
        time.sleep(WARNING_SECONDS)


def measure(job: Job, processes: int, pid: Optional[int], show: bool) -> Dict[str, Any]:
    """Run a job, split over processes, and return its figures. Raises LoadError."""
    name = f"{os.getpid():x}{int(time.time() * 1000) % 16**6:x}"
    parts = [
        _Part(_share(job, processes, number), f"{name}.{number}") for number in range(processes)
    ]
    for part in parts:
        part.outcome()
    before = cpu_seconds(pid) if pid else None
    if pid and before is None:
        raise LoadError(f"cannot read the CPU time of process {pid}")
    started = time.perf_counter()
    for part in parts:
        part.go()
    results: List[Result] = []
    for part in parts:
        while not part.finished(PROGRESS_SECONDS):
            if show:
                done = sum(part.done.value for part in parts)
                seconds = time.perf_counter() - started
                print(f"  {seconds:4.0f} s, {done:,} requests", file=sys.stderr)
        results.append(part.outcome())
    after = cpu_seconds(pid) if pid else None
    result = _sum(results)
    if not result.requests:
        raise LoadError("no request was made; is --seconds too short for --rate?")
    cpu = (after[0] - before[0], after[1] - before[1]) if before and after else None
    return summary(job, result, cpu)


def _sum(results: List[Result]) -> Result:
    latencies: array[float] = array("d")
    for result in results:
        latencies.extend(result.latencies)
    return Result(
        sum(result.requests for result in results),
        sum(result.wrong for result in results),
        max(result.seconds for result in results),
        latencies,
    )


def _print(job: Job, figures: Dict[str, Any]) -> None:
    if job.rate:
        print(f"open loop: {job.rate:g} requests/s, latency from when each was due")
    else:
        print("closed loop: a client waits for its replies, so a stall hides what it holds up")
    print(f"{job.mix}, {job.clients} clients, pipeline {job.pipeline}")
    print(f"requests/s     {figures['requests_per_second']:,}")
    names = [name for name in figures if name.endswith("_ms")]
    print("latency, ms    " + "  ".join(f"{name[:-3]} {figures[name]:g}" for name in names))
    if "server_cpu_us" in figures:
        print(
            f"server CPU     {figures['server_cpu_us']:g} us a request "
            f"({figures['server_user_us']:g} user + {figures['server_system_us']:g} system)"
        )
    print(f"wrong replies  {figures['wrong']:,}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    defaults = Job()
    option = parser.add_argument
    option("--host", default=defaults.host)
    option("--port", type=int, default=defaults.port)
    option("--clients", type=positive, default=defaults.clients, help="connections (50)")
    option("--pipeline", type=positive, default=1, help="requests sent at a time by each (1)")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--requests", type=positive, help="how many in all, in whole pipelines")
    length.add_argument("--seconds", type=_positive_float, default=defaults.seconds, help="(5)")
    option(
        "--mix", choices=MIXES, default="put", help="what is asked (put); grown: a put and a get"
    )
    option("--keys", type=positive, default=defaults.keys, help="each client's own, in all (100)")
    option("--points", type=positive, default=defaults.points, help="in a key that is read (100)")
    option("--rate", type=_positive_float, help="requests/s in all, at fixed times (as they come)")
    option("--processes", type=positive, default=1, help="that share the clients (1)")
    option("--pid", type=positive, help="the server's process, to report its CPU a request")
    option("--protocol", choices=["metricsd", "redis"], default="metricsd")
    option("--json", action="store_true", help="the figures as JSON")
    options = parser.parse_args()
    if options.processes > options.clients:
        parser.error("--processes can't be more than --clients")
    return options


def positive(text: str) -> int:
    """A whole number from 1 on, for argparse. Raises argparse.ArgumentTypeError."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"takes a whole number of at least 1, not {text!r}")
    return int(text)


def _positive_float(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"takes a number above 0, not {text!r}")
    return number


def main() -> int:
    """Run the load that the command line asks for; return the exit code."""
    options = _arguments()
    job = Job(**{name: getattr(options, name) for name in Job._fields})
    try:
        key = other_key(job)
        if key is not None:
            _warn(job, key)
        figures = measure(job, options.processes, options.pid, show=True)
    except LoadError as error:
        print(f"load: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    if options.json:
        print(json.dumps(figures))
    else:
        _print(job, figures)
    if figures["wrong"]:
        print(f"load: {figures['wrong']} wrong replies", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
