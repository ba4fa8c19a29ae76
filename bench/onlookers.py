"""Real programs that look at a server: with the files of OPERATING.md, on ports that are free.

    python3 bench/onlookers.py

Prometheus scrapes the counters, promtool accepts them and the alarms, nginx stands in front. What
is not installed is skipped with a line that says how to get it.
"""

import base64
import contextlib
import json
import re
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, NamedTuple

from senders import END_SECONDS, POINT_SECONDS, Failed, program
from servers import free_port
from subject import ROOT, Subject

LOOK_SECONDS = 0.2  # between two looks whether it is there
NAME = "metrics.example.org"  # by which OPERATING.md calls the server behind nginx

NGINX = """\
daemon off; pid {folder}/pid; error_log stderr; worker_processes 1;
events {{ worker_connections 64; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
{server}
}}
"""


class Place(NamedTuple):
    """Where the server is looked at, and another port that is free."""

    port: int
    own_port: int
    folder: Path


def block(language: str, word: str) -> str:
    """The block of OPERATING.md in a language that has a word."""
    text = (ROOT / "metricsd" / "OPERATING.md").read_text(encoding="utf-8")
    blocks = re.findall(f"```{language}\n(.*?)```", text, re.DOTALL)
    (found,) = [one for one in blocks if word in one]
    return str(found)


def fetch(url: str, **headers: str) -> str:
    """Get a page. Raises OSError."""
    request = urllib.request.Request(url, headers=headers)
    with urllib.request.urlopen(request, timeout=10) as reply:
        return str(reply.read().decode())


def wait_for(what: str, look: Callable[[], Any]) -> Any:
    """Look until there is something to see. Raises Failed if that takes long."""
    deadline = time.monotonic() + POINT_SECONDS
    while True:
        with contextlib.suppress(OSError):
            found = look()
            if found:
                return found
        if time.monotonic() > deadline:
            raise Failed(f"no {what} after {POINT_SECONDS:g} s")
        time.sleep(LOOK_SECONDS)


@contextlib.contextmanager
def started(*command: str) -> Iterator[None]:
    """Run a program; end it when the block is left."""
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            yield
        except BaseException:
            log.seek(0)
            sys.stderr.write(log.read().decode("utf-8", "replace")[-2000:])
            raise
        finally:
            process.terminate()
            try:
                process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def prometheus(place: Place) -> None:
    """It scrapes every counter, each second, and finds nothing wrong with the alarms."""
    (place.folder / "rules.yml").write_text(block("yaml", "alert:"))
    scrapes = block("yaml", "scrape_configs").replace("8080", str(place.port))
    more = "global: {scrape_interval: 1s, evaluation_interval: 1s}\nrule_files: [rules.yml]\n"
    (place.folder / "prometheus.yml").write_text(more + scrapes)
    url = f"http://127.0.0.1:{place.own_port}/api/v1/"

    def ask(what: str) -> Any:
        return json.loads(fetch(url + what))["data"]

    with started(
        program("prometheus"), f"--config.file={place.folder}/prometheus.yml",
        f"--storage.tsdb.path={place.folder}/data",
        f"--web.listen-address=127.0.0.1:{place.own_port}",
    ):  # fmt: skip
        wait_for("scrape", lambda: ask("query?query=up==1")["result"])
        told = fetch(f"http://127.0.0.1:{place.port}/metrics")
        names = set(re.findall("^# TYPE ([a-z_]+) ", told, re.MULTILINE))
        stored = set(wait_for("names", lambda: ask("label/__name__/values")))
        missing = names - stored
        if missing or not names:
            raise Failed(f"Prometheus has not stored {missing or 'anything'}")
        (group,) = ask("rules")["groups"]
        bad = [rule["name"] for rule in group["rules"] if rule.get("lastError")]
        firing = [alert["labels"]["alertname"] for alert in ask("alerts")["alerts"]]
        if bad or firing:
            raise Failed(f"alarms that are wrong: {bad}; that ring: {firing}")


def promtool(place: Place) -> None:
    """It has nothing to say about the counters, nor about the files."""
    told = fetch(f"http://127.0.0.1:{place.port}/metrics").encode()
    rules = place.folder / "rules.yml"
    rules.write_text(block("yaml", "alert:"))
    for words, given in ((["metrics"], told), (["rules", str(rules)], b"")):
        command = [program("promtool"), "check", *words]
        done = subprocess.run(
            command, input=given, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60
        )
        if done.returncode or (given and done.stdout):
            raise Failed(done.stdout.decode())


def nginx(place: Place) -> None:
    """It passes on the page and what Grafana asks for, and no deletion."""
    server = block("nginx", "server {").replace("8080", str(place.port))
    server = re.sub("listen .*", f"listen 127.0.0.1:{place.own_port};", server)
    passwords = place.folder / "passwords"
    passwords.write_text("me:{PLAIN}secret\n")
    place.folder.chmod(0o755)  # for its workers, who are somebody else
    server = server.replace("/etc/nginx/metricsd.htpasswd", str(passwords))
    file = place.folder / "nginx.conf"
    file.write_text(NGINX.format(folder=place.folder, server=server))
    url = f"http://127.0.0.1:{place.own_port}"
    me = "Basic " + base64.b64encode(b"me:secret").decode()

    def status(method: str, path: str, **headers: str) -> int:
        request = urllib.request.Request(url + path, method=method, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=10) as reply:
                return int(reply.status)
        except urllib.error.HTTPError as error:
            error.close()
            return error.code

    with started(program("nginx"), "-c", str(file), "-p", str(place.folder)):
        wait_for("nginx", lambda: status("GET", "/", Host=NAME))
        known = {"Host": NAME, "Authorization": me}
        deletion = dict(known, **{"X-Metricsd": "delete"})
        found = [
            status("GET", "/", Host=NAME),
            status("GET", "/", **known),
            status("GET", "/render?target=constantLine(1)&format=raw", **known),
            status("HEAD", "/metrics", **known),
            status("DELETE", "/series?query=*", **deletion),
        ]
        if found != [401, 200, 200, 200, 403]:
            raise Failed(f"the replies are {found}")
        for _ in range(20):  # on connections that stay open between the two
            if '"target"' not in fetch(url + "/render?target=constantLine(1)", **known):
                raise Failed("a render is not whole")


class Onlooker(NamedTuple):
    """Somebody who looks, and how to get the program."""

    run: Callable[[Place], None]
    package: str


ONLOOKERS: Dict[str, Onlooker] = {
    "prometheus": Onlooker(prometheus, "prometheus"),
    "promtool": Onlooker(promtool, "prometheus"),
    "nginx": Onlooker(nginx, "nginx-light"),
}


def run(name: str) -> bool:
    """Try one and tell of it; return whether it did well, or was skipped."""
    onlooker = ONLOOKERS[name]
    if not program(name):
        print(f"{name}: skipped (Debian: apt-get install {onlooker.package})", flush=True)
        return True
    print(f"{name}: ", end="", flush=True)
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        place = Place(free_port(), free_port(), Path(folder))
        options = ("--http", str(place.port), "--http-host", NAME, "--graphite", "0")
        store = f"sqlite:{folder}/points.db"
        with Subject(*options, "--store", store, "--max-points", "1000") as server:
            try:
                onlooker.run(place)
            except Failed as error:
                print(f"FAILED: {error}", flush=True)
                return False
            if " ERROR " in server.log() or "Traceback" in server.log():
                print(f"FAILED: the server has logged\n{server.log()}", flush=True)
                return False
    print(f"well after {time.monotonic() - start:.1f} s", flush=True)
    return True


if __name__ == "__main__":
    results = [run(name) for name in ONLOOKERS]
    sys.exit(0 if all(results) else 1)
