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
    plain = inspect.unwrap(function)
    cells: Dict[str, Any] = dict(zip(plain.__code__.co_freevars, plain.__closure__ or ()))
    owner = cells["__class__"].cell_contents if "__class__" in cells else None
    changed = textwrap.indent(source.replace(protection, instead), "    ")
    # Of super() the compiler asks in which class it stands; that is what it is told here.
    text = f"def made_for(__class__):\n{changed}\n    return {function.__name__}"
    found: Dict[str, Any] = {}
    exec(compile(text, f"<without {protection}>", "exec"), plain.__globals__, found)
    return found["made_for"](owner)


def say(title: str, *lines: str) -> None:
    """Print what happens under a title. A number after ~ was measured, and varies."""
    print(f"{title}:")
    for line in lines:
        print(f"    {line}")
