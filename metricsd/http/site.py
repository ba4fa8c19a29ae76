"""The site: which path is answered by whom, and what protects a browser that comes here.

Owns the table of paths and the rules for every request and reply. To add a path, write its function
and add a row to the table.
"""

import ipaddress
import re
from typing import Callable, Collection, Dict, Iterable, Mapping, Union
from urllib.parse import unquote

from metricsd.http.exposition import CONTENT_TYPE, Metric, exposition
from metricsd.http.messages import Fields, HttpError, Reply, Request, Work, text
from metricsd.http.page import ICON, Page

Handler = Callable[[Request], Union[Reply, Work]]  # what takes long is work

HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^][:/@]*))(?::[0-9]{0,5})?\Z")


class Site:
    """Everything that is served over HTTP, on one store."""

    def __init__(
        self,
        page: Page,
        host_names: Collection[str],
        health: Callable[[], str],
        metrics: Callable[[], Iterable[Metric]],
    ) -> None:
        """``health`` says what is wrong, or nothing; ``metrics`` reads the counters.

        ``host_names`` are those by which it may be called, beside localhost and any address: a page
        of somebody else whose name is made to lead here must not read it (DNS rebinding).
        """
        self._page = page
        self._host_names = {"localhost", *(name.lower().rstrip(".") for name in host_names)}
        self._health = health
        self._metrics = metrics
        self._handlers: Dict[str, Dict[str, Handler]] = {}
        self.add("/", GET=self._show_page)
        self.add("/icon.svg", GET=self._show_icon)
        self.add("/health", GET=self._tell_health)
        self.add("/metrics", GET=self._tell_metrics)
        self.fields: Fields = [
            ("Cache-Control", "no-store"),
            ("Content-Security-Policy", page.policy),
            ("Referrer-Policy", "no-referrer"),
            ("X-Content-Type-Options", "nosniff"),
        ]

    def add(self, path: str, **handlers: Handler) -> None:
        """Answer a path, by method."""
        self._handlers[path] = handlers

    def answer(self, request: Request) -> Work:
        """Answer a request. Raises HttpError for one that can't be."""
        self._check_host(request.headers)
        handlers = self._handlers.get(unquote(request.path).rstrip("/") or "/")
        if handlers is None:
            raise HttpError(404, "there is nothing here; the page is at /")
        handler = handlers.get("GET" if request.method == "HEAD" else request.method)
        if handler is None:
            allowed = ", ".join([*handlers, *(["HEAD"] if "GET" in handlers else [])])
            raise HttpError(405, "what is done here is " + allowed, ("Allow", allowed))
        reply = handler(request)
        return reply if isinstance(reply, Reply) else (yield from reply)

    def _check_host(self, headers: Mapping[str, str]) -> None:
        """Refuse a request that was meant for another host. HTTP/1.0 need not name any."""
        said = headers.get("host")
        if said is None:
            return
        found = HOST.match(said)
        name = (found.group(1) or found.group(2)).lower().rstrip(".") if found else ""
        if name not in self._host_names and not _is_address(name):
            raise HttpError(403, "this is no name of this server; --http-host NAME gives it one")

    def _show_page(self, _: Request) -> Reply:
        return Reply(200, "text/html; charset=utf-8", self._page.text)

    def _show_icon(self, _: Request) -> Reply:
        return Reply(200, "image/svg+xml", ICON)

    def _tell_health(self, _: Request) -> Reply:
        problem = self._health()
        return text(problem + "\n", 503) if problem else text("ok\n")

    def _tell_metrics(self, _: Request) -> Reply:
        return Reply(200, CONTENT_TYPE, exposition(self._metrics()).encode())


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
