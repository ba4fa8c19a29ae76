"""The scripts of bench/ in this process, for what takes no process of its own."""

import contextlib
import importlib
import io
import sys
from pathlib import Path
from typing import Any, Tuple
from unittest import mock

import metricsd

BENCH = Path(metricsd.__file__).parent.parent / "bench"


def imported(name: str) -> Any:
    """A module of bench/."""
    with mock.patch.object(sys, "path", [str(BENCH), *sys.path]):
        return importlib.import_module(name)


def run(name: str, *options: str) -> Tuple[int, str]:
    """The exit code of a script, and what it says to standard error."""
    script = imported(name)
    said = io.StringIO()
    arguments = mock.patch.object(sys, "argv", [name + ".py", *options])
    with arguments, contextlib.redirect_stderr(said):
        try:
            code = script.main()
        except SystemExit as error:
            code = error.code
    return code, said.getvalue()
