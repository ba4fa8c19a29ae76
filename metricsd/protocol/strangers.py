"""Strangers: clients whose first bytes show that they took this port for another one.

Owns the two beginnings that end a session: an HTTP request line and a TLS handshake. A web page can
make a browser send either to a port of its own machine, with commands of ours inside.
"""

# RFC 9110, section 9.1, and RFC 5789.
METHODS = (
    b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"CONNECT", b"OPTIONS", b"TRACE", b"PATCH"
)  # fmt: skip

# A record of the handshake, of any version since SSL 3.0: RFC 8446, section 5.1.
FOREIGN_START = b"\x16\x03"


def is_foreign(line: bytes, cut: bool) -> bool:
    """Whether a first line, a wrong command, is one of HTTP: method, target and version.

    Of a line over the limit that was ``cut`` the version has not been seen: the target has to do.
    """
    method, target, version = (line.split(None, 2) + [b"", b"", b""])[:3]
    sign = target.startswith(b"/") if cut else version.startswith(b"HTTP/")
    return sign and method in METHODS
