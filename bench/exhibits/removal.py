"""Take one protection out of a function of metricsd, to see what it is there for.

Owns the cutting, of the source as it stands: if that has changed, it fails instead of showing
something else. Does not know what breaks.
"""

import inspect
import sys
import textwrap
from pathlib import Path
from typing import Any, Callable, Dict

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))


def without(function: Callable[..., Any], protection: str, instead: str = "pass") -> Any:
    """The same function with one piece of its text replaced.

    Raises ValueError if that piece is not in it exactly once.
    """
    source = textwrap.dedent(inspect.getsource(function))
    if source.count(protection) != 1:
        raise ValueError(f"{protection!r} is not once in {function.__qualname__}")
    code = compile(source.replace(protection, instead), f"<without {protection}>", "exec")
    found: Dict[str, Any] = {}
    exec(code, inspect.unwrap(function).__globals__, found)
    return found[function.__name__]


def say(title: str, *lines: str) -> None:
    """Print what happens under a title. A number after ~ was measured, and varies."""
    print(f"{title}:")
    for line in lines:
        print(f"    {line}")
