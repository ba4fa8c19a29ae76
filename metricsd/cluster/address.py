"""Where the cluster is: ``valkey://[USER:PASSWORD@]HOST:PORT[,HOST:PORT...]`` in its parts.

Owns the form of the address, and where the password comes from. Does not connect.
"""

import re
from typing import List, NamedTuple, Optional, Tuple
from urllib.parse import unquote

from metricsd.store import OpenError

ADDRESS = re.compile(r"(valkeys?|rediss?)://(?:([^@]*)@)?([^@/]+)/?\Z")
HOST = re.compile(r"(?:\[([^][]+)\]|([^][:]+)):([0-9]{1,5})\Z")


class Address(NamedTuple):
    """Some nodes of a cluster, and how to get in."""

    hosts: List[Tuple[str, int]]
    tls: bool
    user: Optional[str]
    password: Optional[str]


def parse(url: str, password_file: Optional[str] = None) -> Address:
    """Take an address to pieces, and read its password from a file, if that is given.

    Raises OpenError if there is something wrong with either.
    """
    found = ADDRESS.match(url)
    hosts = [HOST.match(part) for part in found.group(3).split(",")] if found else [None]
    if found is None or None in hosts:
        raise OpenError(
            f"store takes SCHEME://[USER:PASSWORD@]HOST:PORT[,HOST:PORT...], not {_plain(url)!r}"
        )
    user, _, password = (found.group(2) or "").partition(":")
    if password_file is not None:
        password = _read(password_file)
    return Address(
        [(host.group(1) or host.group(2), int(host.group(3))) for host in hosts if host],
        found.group(1) in ("valkeys", "rediss"),
        unquote(user) or None,
        (password if password_file else unquote(password)) or None,
    )


def _plain(url: str) -> str:
    """An address that may be shown: without a password."""
    return re.sub(r"://.*@", "://...@", url)


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.readline().rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise OpenError(f"cannot read the password of the store: {error}") from error
