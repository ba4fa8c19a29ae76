"""A thread beside the loop, for what may wait for a disk.

Owns the thread and the order of its jobs: one after the other. Does not know what they do.
"""

import queue
import threading
from concurrent.futures import Future
from typing import Callable, Optional, Tuple

Job = Callable[[], None]


class Background:
    """Does jobs in a thread of its own, from the start: later, none may be had any more.

    Raises RuntimeError if there is none. It does not keep the process from ending.
    """

    def __init__(self) -> None:
        self._jobs: queue.Queue[Optional[Tuple[Job, Future[None]]]] = queue.Queue()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def submit(self, job: Job) -> "Future[None]":
        """Do this when all before it is done."""
        outcome: Future[None] = Future()
        self._jobs.put((job, outcome))
        return outcome

    def close(self, seconds: float) -> bool:
        """Wait for all jobs, at most so long; return whether they are done."""
        self._jobs.put(None)
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _work(self) -> None:
        for job, outcome in iter(self._jobs.get, None):
            do(job, outcome)


def do(job: Job, outcome: "Future[None]") -> None:
    """Do a job, and tell how it ended."""
    try:
        job()
    except BaseException as error:
        outcome.set_exception(error)
    else:
        outcome.set_result(None)
