"""The page at the root, and the policy that lets a browser run its own script and no other.

Owns the page's text with what this server puts into it. Does not know what the page does.
"""

import base64
import hashlib
import html
import re
import shlex
from pathlib import Path
from typing import Tuple, Union

FILE = Path(__file__).with_name("page.html")

# Where the command for a first point goes, and the command. nc ends after a second of silence.
PLACE = "FIRST_POINT"
FIRST_POINT = 'echo "put cpu 12.5 $(date +%s)" | {sender}'

# For the tab of a browser.
ICON = (
    b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16"><g fill="#7040b8">'
    b'<rect x="1" y="9" width="4" height="6" rx="1"/><rect x="6" y="5" width="4" height="10" '
    b'rx="1"/><rect x="11" y="1" width="4" height="14" rx="1"/></g></svg>'
)


class Page:
    """One HTML file, whose only script and only style are known by their SHA-256."""

    def __init__(self, put_address: Union[Tuple[object, ...], str], with_tls: bool = False) -> None:
        """``put_address`` is where points are put: a host and a port, or a path, as sockets say."""
        command = FIRST_POINT.format(sender=_sender(put_address, with_tls))
        source = FILE.read_text(encoding="utf-8")
        self.text = source.replace(PLACE, html.escape(command), 1).encode()
        script, style = (_digest(source, tag) for tag in ("script", "style"))
        # Content Security Policy, level 3: nothing from elsewhere, nothing inside attributes.
        self.policy = (
            f"default-src 'self'; script-src {script}; style-src {style}; "
            "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )


def _sender(address: Union[Tuple[object, ...], str], with_tls: bool) -> str:
    """The command that sends a line to an address."""
    if isinstance(address, str):
        return "nc -w 1 -U " + shlex.quote(address)
    host, port = address[:2]
    every = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # stand for every address of the machine
    host = every.get(str(host), host)
    if with_tls:
        return f"openssl s_client -quiet -connect {host}:{port}"
    return f"nc -w 1 {host} {port}"


def _digest(source: str, tag: str) -> str:
    """The hash-source of the one element with this tag."""
    (content,) = re.findall(f"<{tag}>(.*?)</{tag}>", source, flags=re.DOTALL)
    digest = hashlib.sha256(content.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
