"""Instructions a request: what a server runs of its own, and its Python, counted by callgrind.

Unlike time, they are nearly the same in every run, also on a machine that is busy. The kernel's are
not among them. A server is started twice, and is asked twice as much once: what both runs have in
common, starting and stopping, falls out of the difference.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Dict, Optional

from load import Job, LoadError, measure
from servers import connect, free_port

ROOT = Path(__file__).resolve().parent.parent
STOP_SECONDS = 60.0  # callgrind writes what it has counted at the end

# Requests of the shorter run. The hundred keys of a load are sealed at 240 points each, so the
# longer one seals each of them once more: no more and no less than its share.
REQUESTS = 24000  # a multiple of every pipeline

JOBS: Dict[str, Job] = {
    "put, 50 clients, pipeline 1": Job(clients=50),
    "put, 10 clients, pipeline 16": Job(clients=10, pipeline=16),
    "put, 10 clients, pipeline 100": Job(clients=10, pipeline=100),
    "put and get of 10 points in turn, 50 clients, pipeline 1": Job(mix="mixed", points=10),
}


def missing() -> Optional[str]:
    """Why nothing can be counted here; None if it can."""
    if shutil.which("valgrind"):
        return None
    return "no instructions: valgrind is missing (Debian: apt-get install valgrind)"


def instructions_a_request(job: Job) -> float:
    """What one more request costs. Raises LoadError or OSError if there is no count."""
    return (_counted(job, 2 * REQUESTS) - _counted(job, REQUESTS)) / REQUESTS


def _counted(job: Job, requests: int) -> int:
    """All instructions of a server that answers so many requests."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "counts"
        valgrind = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={path}"]
        server = [sys.executable, "-m", "metricsd", "--port", str(port), "--log-level", "error"]
        process = subprocess.Popen(
            valgrind + server,
            cwd=str(ROOT),
            env=dict(os.environ, PYTHONHASHSEED="0"),  # or dicts differ from run to run
            stderr=subprocess.DEVNULL,
        )
        try:
            connect(port, process).close()
            figures = measure(job._replace(port=port, requests=requests), 1, None, show=False)
            process.send_signal(signal.SIGTERM)
            process.wait(STOP_SECONDS)
        finally:
            process.kill()
            process.wait()
        if figures["wrong"] or figures["requests"] != requests:
            raise LoadError("the server under callgrind has not answered everything rightly")
        found = re.search(r"^summary: (\d+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    if found is None:
        raise LoadError("callgrind has not written what it has counted")
    return int(found.group(1))
