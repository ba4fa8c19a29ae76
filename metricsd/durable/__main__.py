"""python3 -m metricsd.durable backup PATH TARGET: copy a file, also while a server uses it."""

import argparse
import sys

from metricsd.durable.files import backup
from metricsd.durable.tables import FileError


def main() -> None:
    """Do what the command line asks for; the exit code is 1 if that can't be done."""
    parser = argparse.ArgumentParser(prog="python3 -m metricsd.durable")
    parser.add_argument("command", choices=["backup"], help="copy a file, also one in use")
    parser.add_argument("path", metavar="PATH", help="of the store: what follows sqlite:")
    parser.add_argument("target", metavar="TARGET", help="of the copy; nothing may be there yet")
    options = parser.parse_args()
    try:
        backup(options.path, options.target)
    except FileError as error:
        sys.exit(f"metricsd: {error}")


if __name__ == "__main__":
    main()
