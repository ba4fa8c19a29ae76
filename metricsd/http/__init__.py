"""The window on the store: HTTP, the API, the page. It knows no sockets."""

from metricsd.http.page import Page
from metricsd.http.session import HttpSession
from metricsd.http.site import Site

__all__ = ["HttpSession", "Page", "Site"]
