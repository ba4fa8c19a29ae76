"""The event loop: descriptors, callbacks and time. It does not know what bytes mean."""

from metricsd.loop.connection import Connection
from metricsd.loop.datagrams import Datagrams
from metricsd.loop.endpoints import (
    Address,
    Endpoint,
    ListenError,
    announce,
    format_address,
    open_tcp,
    open_tcp_and_udp,
    prepare,
    say_address,
)
from metricsd.loop.listener import Listener
from metricsd.loop.logs import REPEATS, log_shown
from metricsd.loop.polling import Ready
from metricsd.loop.process import (
    bound_garbage_collection,
    raise_descriptor_limit,
    share_the_lock,
    stopped_by_signals,
)
from metricsd.loop.reactor import Reactor
from metricsd.loop.sessions import Session
from metricsd.loop.sockets import close_socket
from metricsd.loop.tasks import Pause, Steps, Task, Worker
from metricsd.loop.timers import Timer
from metricsd.loop.unix_sockets import open_unix
from metricsd.loop.watches import READ, WRITE, Callback, Watch

__all__ = [
    "READ", "REPEATS", "WRITE", "Address", "Callback", "Connection", "Datagrams", "Endpoint",
    "ListenError", "Listener", "Pause", "Reactor", "Ready", "Session", "Steps", "Task", "Timer",
    "Watch", "Worker", "announce", "bound_garbage_collection", "close_socket", "format_address",
    "log_shown", "open_tcp", "open_tcp_and_udp", "open_unix", "prepare", "raise_descriptor_limit",
    "say_address", "share_the_lock", "stopped_by_signals",
]  # fmt: skip
