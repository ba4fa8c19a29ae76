"""The window on the store: HTTP, the API, the page. It knows no sockets."""

from metricsd.http.api import GraphiteApi
from metricsd.http.deletion import Deletion
from metricsd.http.page import Page
from metricsd.http.session import HttpSession
from metricsd.http.site import Site
from metricsd.http.slices import Shares

__all__ = ["Deletion", "GraphiteApi", "HttpSession", "Page", "Shares", "Site"]
