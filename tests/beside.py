"""Programs that take long: started early, they run beside the other tests, and are asked late."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List, Tuple, TypeVar

from tests.bench_scripts import BENCH

PATIENCE = 50.0  # seconds for one that is asked: less than a test may take

Self = TypeVar("Self", bound="Beside")


class Beside:
    """A program in Python, in bench/ or elsewhere, and a folder to which it writes.

    The tests come first where there are too few processors, unless ``nice`` is 0.
    """

    def __init__(
        self, program: str, folder: Path, *words: str, cwd: Path = BENCH, nice: int = 5
    ) -> None:
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, "-c", program, str(folder), *words],
            cwd=str(cwd),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # so that all that it has started ends with it
        )
        priority = os.getpriority(os.PRIO_PROCESS, 0) + nice
        os.setpriority(os.PRIO_PROCESS, self.process.pid, priority)

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(self, *_: Any) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.__exit__(None, None, None)

    def outcome(self) -> Tuple[str, str]:
        """What it prints, and what it says to standard error, once it has ended well."""
        printed, said = self.process.communicate(timeout=PATIENCE)
        assert self.process.returncode == 0, printed.decode()[-2000:] + said.decode()
        return printed.decode(), said.decode()


FORKS = """
import json, os, sys
{prepared}
def part(name, words):
    for descriptor, end in ((1, ".out"), (2, ".err")):
        os.dup2(os.open(os.path.join(folder, name + end), os.O_CREAT | os.O_WRONLY), descriptor)
    sys.argv[1:] = words
    sys.exit(main())
folder, commands = sys.argv[1:]
names = {{}}
for name, words in json.loads(commands).items():
    child = os.fork()
    if not child:
        part(name, words)
    names[child] = name
codes = {{}}
while names:
    child, status = os.wait()
    codes[names.pop(child)] = status >> 8 or status
print(json.dumps(codes))
"""


class Forks(Beside):
    """Several command lines of one script at once, each in a process that has imported it already.

    ``prepared`` imports its ``main``.
    """

    def __init__(
        self, prepared: str, folder: Path, commands: Dict[str, List[str]], nice: int = 5
    ) -> None:
        super().__init__(FORKS.format(prepared=prepared), folder, json.dumps(commands), nice=nice)

    def outcomes(self) -> Dict[str, Tuple[int, str, str]]:
        """By name: the exit code, what it printed, and what it said to standard error."""
        codes: Dict[str, int] = json.loads(self.outcome()[0])
        return {
            name: (code, self._said(name + ".out"), self._said(name + ".err"))
            for name, code in codes.items()
        }

    def _said(self, file: str) -> str:
        return (self.folder / file).read_text(encoding="utf-8")
