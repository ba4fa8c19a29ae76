"""The command line: ``python3 -m metricsd``.

Owns what a user is told. Does not serve: that is run_server; nor list the options: options.py does.
"""

import argparse
import functools
import logging
import os
import sys
from typing import Any, Callable, List, Optional

from metricsd.loop import ListenError
from metricsd.options import FLAG, OPTIONS, Option, OptionError, from_environment
from metricsd.server import PLAIN, Parts, run_server
from metricsd.store import OpenError
from metricsd.version import __version__

DESCRIPTION = """\
A metrics server. Clients connect over TCP and send lines of text:

  put <key> <value> <timestamp>   store a measurement
  get <key>                       read the measurements of a key
  get *                           read all measurements

Try it: start it, and in another terminal: telnet 127.0.0.1 8888
"""

ENVIRONMENT = """\
Each option can also be set in the environment, as in METRICSD_PORT=8889; the command line wins.
"""


class SupervisionError(Exception):
    """What started this process has handed on what can't be used; the message is one line."""


class OneLineParser(argparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def error(self, message: str) -> Any:  # NoReturn came with Python 3.6.2
        """Say what is wrong and exit with 2."""
        self.exit(2, f"{self.prog}: {message} (see --help)\n")


def main(arguments: Optional[List[str]] = None) -> int:
    """Run the server as the command line and the environment say; return the exit code."""
    _open_standard_streams()
    parser = make_parser()
    try:
        parser.set_defaults(**from_environment(os.environ))
    except OptionError as error:
        parser.error(str(error))
    options = vars(parser.parse_args(arguments))
    logging.basicConfig(
        level=options.pop("log_level").upper(),
        format="%(asctime)s metricsd %(levelname)s: %(message)s",
        stream=sys.stderr,
    )
    parts = PLAIN
    if options.pop("trace"):
        from metricsd.watch import Trace, observed  # an optional part

        parts = Parts(**observed(Trace(sys.stderr)))
    try:
        if "NOTIFY_SOCKET" in os.environ or "LISTEN_FDS" in os.environ:
            parts = _supervised(parts)
        run_server(parts=parts, **options)
    except OptionError as error:  # of options that do not go together
        parser.error(f"argument --{error.name.replace('_', '-')}: {error.problem}")
    except (ListenError, OpenError, SupervisionError) as error:
        print(f"metricsd: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:  # in the moment before the server takes care of signals
        return 130
    return 0


def _supervised(parts: Parts) -> Parts:
    """The same parts, for a process that systemd has started. Raises SupervisionError."""
    from metricsd.systemd import InheritError, Supervisor  # an optional part

    try:
        supervisor = Supervisor(os.environ, os.getpid())
    except InheritError as error:
        raise SupervisionError(str(error)) from error
    attachments = functools.partial(parts.attachments, supervisor=supervisor)
    return parts._replace(attachments=attachments)


def _open_standard_streams() -> None:
    """Where one was closed, as by ``2>&-``, a client's socket must not take its place."""
    descriptor = os.open(os.devnull, os.O_RDWR)
    while descriptor <= 2:
        descriptor = os.open(os.devnull, os.O_RDWR)
    os.close(descriptor)
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - for as long as the process lives


def make_parser() -> argparse.ArgumentParser:
    """A parser of all options, made from their table."""
    parser = OneLineParser(
        prog="metricsd",
        description=DESCRIPTION,
        epilog=ENVIRONMENT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    for option in OPTIONS:
        said = f"{option.help} ({option.said_default})".replace("%", "%%")
        if option.kind is FLAG:
            parser.add_argument(option.flag, action="store_true", help=said)
        else:
            parser.add_argument(
                option.flag,
                type=_converter(option),
                default=option.default,
                metavar=option.metavar,
                help=said,
            )
    parser.add_argument("--version", action="version", version="metricsd " + __version__)
    return parser


def _converter(option: Option) -> Callable[[str], Any]:
    def convert(text: str) -> Any:
        try:
            return option.parse(text)
        except OptionError as error:
            raise argparse.ArgumentTypeError(error.problem) from None

    return convert


if __name__ == "__main__":
    sys.exit(main())
