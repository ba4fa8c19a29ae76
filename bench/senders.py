"""Real senders of Graphite's lines: each is started, and what it sends has to be there.

    python3 bench/senders.py [--only NAME]

A sender that is not installed is skipped with a line that says how to get it.
"""

import argparse
import contextlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Callable, Dict, Iterator, List, NamedTuple, Sequence

from servers import free_port
from subject import Subject

POINT_SECONDS = 30.0  # that a sender has for its points
LOOK_SECONDS = 0.2  # between two looks whether they are there
END_SECONDS = 10.0  # that it has to end

COLLECTD = """\
Hostname "web1"
FQDNLookup false
BaseDir "{folder}"
PIDFile "{folder}/pid"
Interval 1
LoadPlugin load
LoadPlugin memory
LoadPlugin interface
LoadPlugin write_graphite
<Plugin write_graphite>
  <Node "metricsd">
    Host "127.0.0.1"
    Port "{port}"
    Protocol "{protocol}"
    Prefix "collectd."
    StoreRates true
  </Node>
</Plugin>
"""

STATSD = """\
{{
  graphiteHost: "127.0.0.1", graphitePort: {port}, backends: ["./backends/graphite"],
  address: "127.0.0.1", port: {own_port}, mgmt_address: "127.0.0.1", mgmt_port: {other_port},
  flushInterval: 500
}}
"""

RELAY = """\
cluster metricsd forward 127.0.0.1:{port};
match * send to metricsd stop;
"""


class Failed(Exception):
    """A sender did not do what it should; the message says what."""


class Ports(NamedTuple):
    """Where Graphite's lines are taken, and some that are free."""

    port: int
    own_port: int
    other_port: int


def wait_for(server: Subject, key: str, points: int = 1) -> List[str]:
    """Ask until a key has so many points; its rows. Raises Failed if that takes long."""
    deadline = time.monotonic() + POINT_SECONDS
    while True:
        with server.client() as client:
            rows = client.ask(b"get %s\n" % key.encode()).decode().splitlines()[1:-1]
        if len(rows) >= points:
            return rows
        if time.monotonic() > deadline:
            raise Failed(f"{key} has {len(rows)} points of {points} after {POINT_SECONDS:g} s")
        time.sleep(LOOK_SECONDS)


@contextlib.contextmanager
def started(command: Sequence[str], configuration: str) -> Iterator[None]:
    """Run a sender with a configuration, FILE among its words; end it when the block is left."""
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as log:
        file = Path(folder) / "configuration"
        file.write_text(configuration.replace("{folder}", folder))
        process = subprocess.Popen(
            [word.replace("FILE", str(file)) for word in command],
            cwd=folder,
            stdout=log,
            stderr=log,
        )
        try:
            yield
        except BaseException:
            log.seek(0)
            sys.stderr.write(log.read().decode("utf-8", "replace")[-2000:])
            raise
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def collectd(server: Subject, ports: Ports) -> None:
    """Over TCP and over UDP."""
    for protocol in ("tcp", "udp"):
        text = COLLECTD.replace("{port}", str(ports.port)).replace("{protocol}", protocol)
        text = text.replace('"web1"', f'"{protocol}"')
        with started([program("collectd"), "-f", "-C", "FILE"], text):
            wait_for(server, f"collectd.{protocol}.load.load.shortterm", 3)
            wait_for(server, f"collectd.{protocol}.interface-lo.if_octets.rx", 3)


def statsd(server: Subject, ports: Ports) -> None:
    """It connects for each flush, and closes at once."""
    text = STATSD.format(**ports._asdict())
    with started([program("statsd"), "FILE"], text):
        wait_for(server, "statsd.numStats")
        send_datagram(ports.own_port, b"hits:3|c\nhits:4|c")
        deadline = time.monotonic() + POINT_SECONDS
        while not any(row.split()[1] == "7.0" for row in wait_for(server, "stats_counts.hits")):
            if time.monotonic() > deadline:
                raise Failed("the 7 hits have not come")
            time.sleep(LOOK_SECONDS)


def relay(server: Subject, ports: Ports) -> None:
    """What carbon-c-relay is given comes out as it was, tags included."""
    text = RELAY.format(port=ports.port)
    command = [program("carbon-c-relay"), "-p", str(ports.own_port), "-f", "FILE", "-s"]
    now = int(time.time())
    with started(command, text):
        deadline = time.monotonic() + POINT_SECONDS
        while True:
            try:
                with socket.create_connection(("127.0.0.1", ports.own_port)) as sock:
                    sock.sendall(b"relayed.a 1 %d\nrelayed.b;z=1;y=2 2 %d\n" % (now, now))
                break
            except ConnectionRefusedError:
                if time.monotonic() > deadline:
                    raise Failed("carbon-c-relay does not listen") from None
                time.sleep(LOOK_SECONDS)
        wait_for(server, "relayed.a")
        wait_for(server, "relayed.b;y=2;z=1")


def proxmox(server: Subject, ports: Ports) -> None:
    """Datagrams as Proxmox VE makes them: some lines each, all at the same time."""
    now = int(time.time())
    lines = [b"proxmox.nodes.pve.cpustat.%s 0.5 %d\n" % (name, now) for name in (b"user", b"idle")]
    send_datagram(ports.port, b"".join(lines))
    wait_for(server, "proxmox.nodes.pve.cpustat.user")
    wait_for(server, "proxmox.nodes.pve.cpustat.idle")


def bash(server: Subject, ports: Ports) -> None:
    """As from cron: one line, with its time or without."""
    script = 'echo "backup.seconds 12 $(date +%s)" >/dev/tcp/127.0.0.1/$0; '
    script += 'echo "backup.files 7" >/dev/udp/127.0.0.1/$0'
    subprocess.check_call([program("bash"), "-c", script, str(ports.port)])
    wait_for(server, "backup.seconds")
    wait_for(server, "backup.files")


def send_datagram(port: int, datagram: bytes) -> None:
    """Send one to this machine."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(datagram, ("127.0.0.1", port))


def program(name: str) -> str:
    """Where a program is; "" if it is not installed. System programs need not be in the PATH."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin") or ""


class Sender(NamedTuple):
    """A sender, and the program that it needs, and how to get that; none is needed for ""."""

    run: Callable[[Subject, Ports], None]
    program: str
    package: str


SENDERS: Dict[str, Sender] = {
    "collectd": Sender(collectd, "collectd", "Debian: apt-get install collectd-core"),
    "statsd": Sender(statsd, "statsd", "npm install statsd, and its folder of programs in PATH"),
    "carbon-c-relay": Sender(relay, "carbon-c-relay", "Debian: apt-get install carbon-c-relay"),
    "proxmox": Sender(proxmox, "", ""),
    "bash": Sender(bash, "bash", "Debian: apt-get install bash"),
}


def run(name: str) -> bool:
    """Try a sender and tell of it; return whether it did well, or was skipped."""
    sender = SENDERS[name]
    if sender.program and not program(sender.program):
        print(f"{name}: skipped, it is not installed ({sender.package})", flush=True)
        return True
    print(f"{name}: ", end="", flush=True)
    ports = Ports(free_port(), free_port(), free_port())
    start = time.monotonic()
    with Subject("--graphite", str(ports.port)) as server:
        try:
            sender.run(server, ports)
        except Failed as error:
            print(f"FAILED: {error}", flush=True)
            return False
        if " ERROR " in server.log() or "Traceback" in server.log():
            print(f"FAILED: the server has logged\n{server.log()}", flush=True)
            return False
    print(f"all there after {time.monotonic() - start:.1f} s", flush=True)
    return True


def main() -> int:
    """Run all, or one; 0 if each that is installed did well."""
    parser = argparse.ArgumentParser(description="Real senders of Graphite's lines")
    parser.add_argument("--only", choices=sorted(SENDERS))
    options = parser.parse_args()
    results = [run(name) for name in SENDERS if options.only in (None, name)]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
