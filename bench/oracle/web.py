"""Graphite-web's own functions on series that are given, for bench/oracle.py.

    PYTHON bench/graphite_web.py < CASES > RESULTS       a case and its result, a line of JSON each

Run by a Python in which graphite-web 1.1.10 is installed; nothing of metricsd is used. A case is a
target, its range, and what each path means in each range. The result is a list of
[name, start, end, step, values, tags], or the text of what was raised.
"""

import json
import logging
import os
import sys
import warnings
from datetime import datetime
from typing import Any, Dict, List, Tuple
from unittest import mock

import django
import pytz
from django.conf import settings

# No file is written, nor a database opened.
os.environ["DJANGO_SETTINGS_MODULE"] = "graphite.settings"
warnings.simplefilter("ignore")
for name in ("INFO", "EXCEPTION", "CACHE", "RENDERING"):
    setattr(settings, f"LOG_FILE_{name}", "-")  # standard error
logging.disable(logging.CRITICAL)
sys.modules["cairo"] = mock.MagicMock()  # nothing is drawn
django.setup()

from graphite.render import datalib, evaluator
from graphite.tags.utils import TaggedSeries


class Tags:
    """What graphite-web asks of a store of tags to tell those of a series."""

    @staticmethod
    def parse(path: str) -> Any:
        """The tags in a path."""
        return TaggedSeries.parse(path)


class Given:
    """A store in which the paths of a case mean what the case says."""

    tagdb = Tags()

    def __init__(self) -> None:
        self.given: Dict[Tuple[str, int, int], List[Any]] = {}

    def fetch(self, patterns: List[str], start: Any, until: Any, *rest: Any) -> List[Any]:
        """What patterns mean in a range."""
        return [
            {
                "pathExpression": pattern,
                "path": name,
                "name": name,
                "time_info": (first, end, step),
                "values": values,
            }
            for pattern in patterns
            for name, first, end, step, values in self.given[pattern, int(start), int(until)]
        ]


STORE = datalib.STORE = Given()


def result(case: Dict[str, Any]) -> Any:
    """What graphite-web makes of a case."""
    STORE.given = {(pattern, start, end): series for pattern, start, end, series in case["given"]}
    context = {
        "startTime": datetime.fromtimestamp(case["start"], pytz.utc),
        "endTime": datetime.fromtimestamp(case["until"], pytz.utc),
        "now": datetime.fromtimestamp(case["until"], pytz.utc),
        "tzinfo": pytz.utc,
        "localOnly": False,
        "template": {},
        "data": [],
        "prefetched": {},
        "xFilesFactor": 0,
        "targets": [case["target"]],
    }
    try:
        series = evaluator.evaluateTarget(context, case["target"])
        return [
            [one.name, one.start, one.end, one.step, list(one), dict(one.tags)] for one in series
        ]
    except Exception as error:
        return f"{type(error).__name__}: {error}"


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(result(json.loads(line))), flush=True)
