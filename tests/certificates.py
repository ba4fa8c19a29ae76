"""Certificates for tests, made by openssl when they are first asked for."""

import shutil
import ssl
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Dict

import pytest

OPENSSL = shutil.which("openssl")
needs_openssl = pytest.mark.skipif(not OPENSSL, reason="there is no openssl here")

CURVE = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
MADE: Dict[str, Any] = {}  # the folder, once there is one; it goes when the tests end


def folder() -> Path:
    """A folder with ca, other-ca, server, agent and stranger: .pem and .key each."""
    if not MADE:
        MADE["folder"] = tempfile.TemporaryDirectory()
        path = Path(MADE["folder"].name)
        for authority, names in [("ca", ("server", "agent")), ("other-ca", ("stranger",))]:
            _run(path, "req", "-x509", *CURVE, "-days", "9", "-subj", f"/CN={authority}",
                 # Python 3.13 refuses an authority whose certificate does not say what it is for.
                 "-addext", "keyUsage=critical,keyCertSign,cRLSign",
                 "-keyout", f"{authority}.key", "-out", f"{authority}.pem")  # fmt: skip
            for name in names:
                _issue(path, authority, name)
    return Path(MADE["folder"].name)


def _issue(path: Path, authority: str, name: str) -> None:
    (path / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n", encoding="ascii")
    _run(path, "req", *CURVE, "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", "csr")
    _run(path, "x509", "-req", "-in", "csr", "-extfile", "names", "-CA", f"{authority}.pem",
         "-CAkey", f"{authority}.key", "-CAcreateserial", "-days", "9",
         "-out", f"{name}.pem")  # fmt: skip


def _run(path: Path, *arguments: str) -> None:
    command = ["openssl", *arguments]
    subprocess.run(command, cwd=str(path), check=True, stderr=subprocess.PIPE)


def server_options(clients: bool = False) -> Dict[str, Any]:
    """What makes a server speak TLS."""
    found: Dict[str, Any] = {
        "tls_cert": str(folder() / "server.pem"),
        "tls_key": str(folder() / "server.key"),
    }
    return dict(found, tls_clients=str(folder() / "ca.pem")) if clients else found


def client_context(name: str = "", newest: str = "") -> ssl.SSLContext:
    """What trusts the server, and shows a certificate if it is given a name."""
    context = ssl.create_default_context(cafile=str(folder() / "ca.pem"))
    if name:
        context.load_cert_chain(str(folder() / f"{name}.pem"), str(folder() / f"{name}.key"))
    if newest == "1.2" and hasattr(context, "maximum_version"):
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    elif newest == "1.2":  # Python 3.6
        context.options |= ssl.OP_NO_TLSv1_3
    return context
