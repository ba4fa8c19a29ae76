"""The command line: ``python3 -m metricsd``.

Owns the options and what a user is told. Does not serve: that is run_server.
"""

import argparse
import logging
import math
import re
import sys
from typing import Any, List, Optional

from metricsd.lines import MAX_LINE_BYTES
from metricsd.listener import ListenError
from metricsd.server import MAX_CONNECTIONS, run_server
from metricsd.trace import Trace
from metricsd.version import __version__

# In a unit of time.
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}

LOG_LEVELS = ("debug", "info", "warning", "error")

DESCRIPTION = """\
A metrics server. Clients connect over TCP and send lines of text:

  put <key> <value> <timestamp>   store a measurement
  get <key>                       read the measurements of a key
  get *                           read all measurements

Try it: start it, and in another terminal: telnet 127.0.0.1 8888
"""


class OneLineParser(argparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def error(self, message: str) -> Any:  # NoReturn came with Python 3.6.2
        """Say what is wrong and exit with 2."""
        self.exit(2, f"{self.prog}: {message} (see --help)\n")


def main(arguments: Optional[List[str]] = None) -> int:
    """Run the server as the command line says; return the exit code."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(
        level=options.log_level.upper(),
        format="%(asctime)s metricsd %(levelname)s: %(message)s",
        stream=sys.stderr,
    )
    try:
        run_server(
            options.host,
            options.port,
            max_connections=options.max_connections,
            max_line_bytes=options.max_line_bytes,
            idle_timeout=options.idle_timeout,
            max_points=options.max_points,
            retention=options.retention,
            tell=Trace(sys.stderr) if options.trace else None,
        )
    except ListenError as error:
        print(f"metricsd: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:  # in the moment before the server takes care of signals
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(
        prog="metricsd",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    option = parser.add_argument
    option("--host", default="127.0.0.1", help="name or address to listen on (%(default)s)")
    option("--port", type=_port, default=8888, help="port to listen on, 0 for any (%(default)s)")
    option(
        "--max-connections",
        type=_positive,
        default=MAX_CONNECTIONS,
        metavar="N",
        help="clients served at a time; more have to wait (%(default)s)",
    )
    option(
        "--max-line-bytes",
        type=_positive,
        default=MAX_LINE_BYTES,
        metavar="N",
        help="longest request; a longer one is answered with an error (%(default)s)",
    )
    option(
        "--idle-timeout",
        type=_seconds,
        metavar="SECONDS",
        help="close connections with nothing pending that are silent for so long (never)",
    )
    option(
        "--max-points",
        type=_positive,
        metavar="N",
        help="points stored in all; a put of one more is answered with an error (no limit)",
    )
    option(
        "--retention",
        type=_duration,
        metavar="DURATION",
        help="drop points when their timestamps are so old, like 90s, 15m, 24h or 7d (never)",
    )
    option("--log-level", choices=LOG_LEVELS, default="info", help="how much to log (%(default)s)")
    option("--trace", action="store_true", help="tell each step of the loop, to read along (off)")
    option("--version", action="version", version="metricsd " + __version__)
    return parser


def _port(text: str) -> int:
    return _whole_number(text, 0, 65535)


def _positive(text: str) -> int:
    return _whole_number(text, 1, sys.maxsize)


def _whole_number(text: str, least: int, most: int) -> int:
    try:
        number = int(text)
    except ValueError:
        number = least - 1
    if not least <= number <= most:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least} to {most}")
    return number


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number of seconds")
    return seconds


def _duration(text: str) -> int:
    """Seconds."""
    number, unit = text[:-1], text[-1:]
    if not re.fullmatch("[0-9]{1,12}[smhd]", text) or int(number) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a duration like 90s, 15m, 24h or 7d")
    return int(number) * SECONDS[unit]


if __name__ == "__main__":
    sys.exit(main())
