"""The client's command line: ``python3 -m metricsd.client``, or ``metricsd-client``.

Owns what a user is told, and how a server is reached. Does not know what the commands do.
"""

import argparse
import sys
from typing import Any, Callable, List, Optional

from metricsd.client.client import Client, ClientError
from metricsd.client.commands import dump, get, keys, put
from metricsd.client.loading import load
from metricsd.options import DURATION, LOOPBACK

DESCRIPTION = "Talk to a metricsd server, or to any other that speaks its protocol."

# Seconds that a server may be silent, unless it is said otherwise.
TIMEOUT = 30.0


class OneLineParser(argparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def error(self, message: str) -> Any:
        """Say what is wrong and exit with 2."""
        self.exit(2, f"{self.prog}: {message} (see --help)\n")


def main(arguments: Optional[List[str]] = None) -> int:
    """Do what the command line says; return the exit code."""
    options = make_parser().parse_args(arguments)
    try:
        with connect(options) as client:
            return int(options.run(client, options))
    except BrokenPipeError:  # whoever read what is printed has had enough
        return 1
    except (ClientError, OSError) as error:
        print(f"metricsd-client: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def connect(options: Any) -> Client:
    """A client of the server that the options name. Raises ClientError."""
    if options.unix is not None:
        return Client("unix:" + options.unix, timeout=options.timeout, tls=_tls(options))
    return Client(options.host, options.port, options.timeout, _tls(options))


def _tls(options: Any) -> Any:
    """An ssl.SSLContext if any option asks for one. Raises ClientError."""
    if not (options.tls or options.tls_ca or options.tls_cert):
        return None
    import ssl

    try:
        context = ssl.create_default_context(cafile=options.tls_ca)
        if options.tls_cert:
            context.load_cert_chain(options.tls_cert, options.tls_key)
    except OSError as error:
        names = ", ".join(filter(None, (options.tls_ca, options.tls_cert, options.tls_key)))
        reason = getattr(error, "reason", None) or error.strerror
        raise ClientError(f"cannot use {names}: {reason}") from None
    return context


def make_parser() -> argparse.ArgumentParser:
    """A parser of all commands."""
    parser = OneLineParser(prog="metricsd-client", description=DESCRIPTION, allow_abbrev=False)
    add = parser.add_argument
    add("--host", default=LOOPBACK, help=f"where the server is ({LOOPBACK})")
    add("--port", type=int, default=8888, help="and its port (8888)")
    add("--unix", metavar="PATH", help="its socket in the file system, instead")
    add("--timeout", type=_duration, default=TIMEOUT, metavar="DURATION",
        help=f"how long it may be silent ({TIMEOUT:g} s)")  # fmt: skip
    add("--tls", action="store_true", help="speak TLS, and trust the authorities of this system")
    add("--tls-ca", metavar="PATH", help="speak TLS, and trust these authorities alone")
    add("--tls-cert", metavar="PATH", help="a certificate to show, in PEM")
    add("--tls-key", metavar="PATH", help="its key, unless that is in the same file")
    commands = parser.add_subparsers(metavar="COMMAND", dest="command")
    commands.required = True
    _add_put(_command(commands, "put", put, "store a measurement"))
    _add_get(_command(commands, "get", get, "print the points of a key, or of * for every key"))
    keys_parser = _command(commands, "keys", keys, "print the keys, or those that match")
    keys_parser.add_argument("glob", nargs="?", default="*", metavar="GLOB", help="such as 'cpu.*'")
    _command(commands, "dump", dump, "print everything as puts, for load")
    load_parser = _command(commands, "load", load, "store what dump has printed")
    load_parser.add_argument("file", nargs="?", metavar="FILE", help="(standard input)")
    load_parser.add_argument(
        "--patience", type=_duration, default=60.0, metavar="DURATION",
        help="how long a server may store nothing, as it is full or its disk fails (60 s)",
    )  # fmt: skip
    return parser


def _command(commands: Any, name: str, run: Callable[[Client, Any], int], about: str) -> Any:
    parser = commands.add_parser(name, help=about, description=about, allow_abbrev=False)
    parser.set_defaults(run=run)
    return parser


def _add_put(parser: Any) -> None:
    parser.add_argument("key", metavar="KEY")
    parser.add_argument("value", metavar="VALUE")
    parser.add_argument("timestamp", nargs="?", metavar="TIMESTAMP", help="in seconds (now)")


def _add_get(parser: Any) -> None:
    parser.add_argument("key", metavar="KEY")
    parser.add_argument("--from", dest="start", type=int, metavar="SECONDS",
                        help="no points before this timestamp")  # fmt: skip
    parser.add_argument("--until", type=int, metavar="SECONDS", help="none after this one")
    parser.add_argument("--last", type=_duration, metavar="DURATION",
                        help="none older than this, such as 15m, 24h or 7d")  # fmt: skip
    formats = parser.add_mutually_exclusive_group()
    formats.add_argument("--json", action="store_true", help="an object of JSON on each line")
    formats.add_argument("--csv", action="store_true", help="a table with a header")


def _duration(text: str) -> float:
    try:
        return float(DURATION.parse(text))
    except ValueError:
        raise argparse.ArgumentTypeError(f"takes {DURATION.takes}, not {text!r}") from None


if __name__ == "__main__":
    sys.exit(main())
