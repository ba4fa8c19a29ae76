"""What a render is answered with: JSON, CSV, or a line a series.

Owns how rows of values are written, in pieces that take some 0.2 ms each. The formats:
Graphite's documentation, "The Render URL API", format.
"""

import csv
import io
import json
import time
from itertools import repeat
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Tuple

from metricsd.graphite import Rendered
from metricsd.http.messages import Step

# Points in a piece: 0.7 us each in JSON, and 3 us with the date that CSV has.
POINTS_A_PIECE = 250
DATES_A_PIECE = 60

Body = Iterator[Step]


class Format(NamedTuple):
    """A way to write the result of a render."""

    content_type: str
    write: Callable[[List[Rendered]], Body]


def as_json(results: List[Rendered]) -> Body:
    """A list of objects with ``target``, ``tags``, and ``datapoints`` as [value, timestamp]."""
    before = "["
    for one in _each(results):
        head = json.dumps({"target": one.name, "tags": one.tags})[:-1]
        before += head + ', "datapoints": ['
        for values, timestamps in _pieces(one, POINTS_A_PIECE):
            yield (before + json.dumps(list(zip(values, timestamps)))[1:-1]).encode()
            before = ", "
        yield b"]}" if one.values else (before + "]}").encode()
        before = ", "
    yield b"]" if before == ", " else b"[]"


def as_csv(results: List[Rendered]) -> Body:
    """A line a value: the name, the time by the machine's clock, and the value, if any."""
    for one in _each(results):
        for values, timestamps in _pieces(one, DATES_A_PIECE):
            text = io.StringIO()
            local = map(time.localtime, timestamps)
            dates = map(time.strftime, repeat("%Y-%m-%d %H:%M:%S"), local)
            csv.writer(text).writerows(zip(repeat(one.name), dates, values))
            yield text.getvalue().encode()


def as_raw(results: List[Rendered]) -> Body:
    """A line a series: ``name,start,end,step|value,value,None``."""
    for one in _each(results):
        before = f"{one.name},{one.start},{one.end},{one.step}|"
        for values, _ in _pieces(one, POINTS_A_PIECE):
            yield (before + ",".join(map(str, values))).encode()
            before = ","
        yield b"\n" if one.values else (before + "\n").encode()


def _each(results: List[Rendered]) -> Iterator[Rendered]:
    """Yield them, and let go of each that has been written."""
    results.reverse()
    while results:
        yield results.pop()


def _pieces(one: Rendered, size: int) -> Iterator[Tuple[List[Any], range]]:
    """Some values at a time, and their timestamps."""
    for at in range(0, len(one.values), size):
        values = one.values[at : at + size]
        first = one.start + at * one.step
        yield values, range(first, first + len(values) * one.step, one.step)


FORMATS: Dict[str, Format] = {
    "json": Format("application/json", as_json),
    "csv": Format("text/csv; charset=utf-8", as_csv),
    "raw": Format("text/plain; charset=utf-8", as_raw),
}
