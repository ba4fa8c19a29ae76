"""Graphite's HTTP API, as Grafana's data source asks for it.

Owns the paths, what each takes, and what its reply looks like. What a target means is evaluated
elsewhere. The API: Graphite's documentation, "The Render URL API", "The Metrics API" and
"Function API".
"""

import json
import re
from itertools import islice
from typing import Any, Callable, Dict, List, Optional, Set, Tuple

from metricsd.graphite import (
    Node,
    RenderError,
    expand,
    find,
    functions,
    index,
    parse_time,
    render,
)
from metricsd.http.formats import FORMATS, Body
from metricsd.http.messages import HttpError, Reply, Request, Work
from metricsd.http.slices import Held, Shares, sliced
from metricsd.store import Store

JSON = "application/json"

# What Grafana asks for to know what it may ask for.
VERSION = b"1.1.10"

# maxDataPoints: what is more than can be drawn is as good as the most that is. Digits are those of
# ASCII, and few enough for every int().
POINTS = re.compile(r"0{0,99}[1-9][0-9]{0,99}\Z")

# Paths in a piece of a reply: some 0.1 ms.
PATHS_A_PIECE = 128


Parameters = Dict[str, List[str]]


class GraphiteApi:
    """The paths under which a store looks like Graphite."""

    def __init__(self, store: Store, wall_clock: Callable[[], float], shares: Shares) -> None:
        self._store = store
        self._wall_clock = wall_clock
        self._shares = shares
        self._functions = functions()

    def render(self, request: Request) -> Work:
        """``target`` (repeated), ``from``, ``until``, ``maxDataPoints``, ``format``."""
        asked = request.parameters()
        form = FORMATS.get(one(asked, "format", "json"))
        if form is None:
            raise HttpError(400, "the formats are " + ", ".join(FORMATS))
        most = one(asked, "maxDataPoints")
        if most is not None and POINTS.match(most) is None:
            raise HttpError(400, "maxDataPoints is a whole number above 0")
        start, until, now = self._range(asked)
        targets = asked.get("target", [])
        held = yield from self._shares.take()
        points = None if most is None else int(most)
        work = render(self._store, targets, start, until, points, now)
        results = yield from sliced(work)
        held.keep(sum(len(found.values) for found in results))
        return Reply(200, form.content_type, holding(form.write(results), held))

    def find(self, request: Request) -> Work:
        """``query``: the nodes at the depth of a pattern; with ``wildcards=1`` also a star."""
        asked = request.parameters()
        query = one(asked, "query")
        if query is None:
            raise HttpError(400, "query is missing: what is to be found, such as *")
        if one(asked, "format", "treejson") != "treejson":
            raise HttpError(400, "the format is treejson")
        nodes = yield from sliced(find(self._store, query))
        base = query.rpartition(".")[0]
        if one(asked, "wildcards", "0") == "1" and len(nodes) > 1:
            nodes.insert(0, Node("*", nodes[0].leaf))  # branches come first
        return Reply(200, JSON, as_tree(nodes, base + "." if base else ""))

    def expand(self, request: Request) -> Work:
        """``query`` (repeated), ``leavesOnly``, ``groupByExpr``: the paths that patterns mean."""
        asked = request.parameters()
        queries = asked.get("query", [])
        leaves_only = one(asked, "leavesOnly", "0") == "1"
        if one(asked, "groupByExpr", "0") != "1":
            paths = yield from sliced(expand(self._store, queries, leaves_only))
            return Reply(200, JSON, as_list('{"results": [', paths, "]}"))
        groups = []
        for query in dict.fromkeys(queries):
            paths = yield from sliced(expand(self._store, [query], leaves_only))
            groups.append(as_list(f"{json.dumps(query)}: [", paths, "]"))
        return Reply(200, JSON, joined('{"results": {', groups, "}}"))

    def index(self, _: Request) -> Reply:
        """Every key, in the order in which they were first put."""

        def pieces() -> Body:
            for keys in index(self._store):
                yield json.dumps(keys)[1:-1].encode() if isinstance(keys, list) else keys

        return Reply(200, JSON, separated(b"[", pieces(), b"]"))

    def functions(self, request: Request) -> Reply:
        """What targets may call; ``group`` chooses, ``grouped=1`` sorts them into groups."""
        asked = request.parameters()
        group = one(asked, "group")
        found: Dict[str, Any] = {}
        for name, about in self._functions.items():
            if group in (None, about["group"]):
                grouped = one(asked, "grouped", "").lower() in ("1", "true")
                (found.setdefault(about["group"], {}) if grouped else found)[name] = about
        return whole(found)

    def function(self, request: Request) -> Reply:
        """One of them, by the last part of the path."""
        return whole(self._functions[request.path.rstrip("/").rpartition("/")[2]])

    def version(self, _: Request) -> Reply:
        """Which Graphite this is like."""
        return Reply(200, "text/plain; charset=utf-8", VERSION)

    def nothing(self, _: Request) -> Reply:
        """There are no events, and no index of tags."""
        return whole([])

    def add_to(self, add: Callable[..., None]) -> None:
        """Add each path, with what answers GET, and a form in POST."""
        for path, both in {
            "/render": self.render, "/metrics/find": self.find, "/metrics/expand": self.expand,
            "/tags/autoComplete/tags": self.nothing, "/tags/autoComplete/values": self.nothing,
        }.items():  # fmt: skip
            add(path, GET=both, POST=both)
        add("/metrics/index.json", GET=self.index)
        add("/functions", GET=self.functions)
        for name in self._functions:
            add("/functions/" + name, GET=self.function)
        add("/version", GET=self.version)
        add("/events/get_data", GET=self.nothing)

    def _range(self, asked: Parameters) -> Tuple[int, int, float]:
        """From when, until when, and now. Raises HttpError."""
        now = self._wall_clock()
        try:
            start = parse_time(one(asked, "from", "-24h"), now)
            return start, parse_time(one(asked, "until", "now"), now), now
        except RenderError as error:
            raise HttpError(400, str(error)) from None


def one(asked: Parameters, name: str, default: Optional[str] = None) -> Any:
    """The last value of a parameter, unless it is missing or empty."""
    values = [value for value in asked.get(name, ()) if value]
    return values[-1] if values else default


def whole(value: Any) -> Reply:
    """A reply in JSON. What it has no word for, infinity, is written as Graphite does."""
    return Reply(200, JSON, json.dumps(value).replace("Infinity", "1e9999").encode())


def as_tree(nodes: List[Node], base: str) -> Body:
    """Each name once as a branch and once as a leaf, though several nodes may have it."""
    seen: Set[Tuple[str, bool]] = set()

    def pieces() -> Body:
        for at in range(0, len(nodes), PATHS_A_PIECE):
            names = dict.fromkeys((node.name, node.leaf) for node in nodes[at : at + PATHS_A_PIECE])
            fresh = [described(base, *name) for name in names if name not in seen]
            seen.update(names)
            yield json.dumps(fresh)[1:-1].encode()

    return separated(b"[", pieces(), b"]")


def described(base: str, name: str, leaf: bool) -> Dict[str, Any]:
    """A node as Graphite describes it."""
    branch = int(not leaf)
    return {
        "text": name, "id": base + name, "leaf": int(leaf), "expandable": branch,
        "allowChildren": branch, "context": {},
    }  # fmt: skip


def as_list(before: str, paths: List[str], after: str) -> Body:
    """Strings in JSON."""
    source = iter(paths)
    some = iter(lambda: list(islice(source, PATHS_A_PIECE)), [])
    pieces: Body = (json.dumps(piece)[1:-1].encode() for piece in some)
    return separated(before.encode(), pieces, after.encode())


def joined(before: str, bodies: List[Body], after: str) -> Body:
    """Several bodies as one, with commas between."""
    yield before.encode()
    for number, body in enumerate(bodies):
        if number:
            yield b", "
        yield from body
    yield after.encode()


def separated(before: bytes, pieces: Body, after: bytes) -> Body:
    """Pieces with commas between, as they come; what says nothing is passed on."""
    for piece in pieces:
        if isinstance(piece, bytes) and piece:
            yield before + piece
            before = b", "
        else:
            yield piece
    yield after if before == b", " else before + after


def holding(body: Body, held: Held) -> Body:
    """A body, and the room for it until it has been sent."""
    yield from body
    del held
