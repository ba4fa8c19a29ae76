"""The options: one row each, for the command line, the environment and ``Server`` alike.

Owns what each option takes, what it is without one, and how that is said. To add an option, add a
row to OPTIONS, and use it where the server is put together.
"""

import math
import os
import re
import sys
from types import SimpleNamespace
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Tuple

LOOPBACK = "127.0.0.1"  # the host where only this machine gets to

SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}  # by the unit of a duration

ENVIRONMENT_PREFIX = "METRICSD_"


class OptionError(ValueError):
    """An option has a value that it does not take; the message says what it takes."""

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(f"{name} {problem}")
        self.name = name  # as it is called in Python
        self.problem = problem


class Kind(NamedTuple):
    """What an option takes."""

    parse: Callable[[Any], Any]  # from text or from a value of Python's; raises ValueError
    takes: str  # in words


class Option(NamedTuple):
    """A row of the table."""

    name: str  # as it is called in Python
    default: Any
    kind: Kind
    metavar: str
    help: str
    none: str = ""  # what it means that there is no value
    of_server: bool = True  # Server takes it as well as the command line

    @property
    def flag(self) -> str:
        """As it is called on the command line."""
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        """As it is called in the environment."""
        return ENVIRONMENT_PREFIX + self.name.upper()

    @property
    def said_default(self) -> str:
        """The default in words."""
        if self.default is None:
            return self.none
        if self.default == ():
            return "none"
        return "off" if self.default is False else str(self.default)

    def parse(self, value: Any) -> Any:
        """Return the value that is meant. Raises OptionError for one that it does not take."""
        try:
            return self.kind.parse(value)
        except (ValueError, TypeError, KeyError):
            shown = re.sub("(:/*).*@", r"\1...@", repr(value))  # without a password
            raise OptionError(self.name, f"takes {self.kind.takes}, not {shown}") from None


def whole_number(least: int, most: int = sys.maxsize) -> Kind:
    """A whole number within bounds."""

    def parse(value: Any) -> int:
        number = int(value)
        if isinstance(value, (bool, float)) or not least <= number <= most:
            raise ValueError
        return number

    bounds = f"of at least {least}" if most == sys.maxsize else f"from {least} to {most}"
    return Kind(parse, f"a whole number {bounds}")


def one_of(*words: str) -> Kind:
    """One of some words."""

    def parse(value: Any) -> str:
        if value not in words:
            raise ValueError
        return str(value)

    return Kind(parse, ", ".join(words[:-1]) + " or " + words[-1])


def _duration(value: Any) -> float:
    if isinstance(value, str):
        with_unit = re.match("([0-9]{1,12})([smhd])$", value)
        seconds = int(with_unit.group(1)) * SECONDS[with_unit.group(2)] if with_unit else None
        value = float(value) if seconds is None else seconds
    if isinstance(value, bool) or not 0 < value < math.inf:
        raise ValueError
    return value  # type: ignore[no-any-return]


def _path(value: Any) -> str:
    path = os.fspath(value)
    if not isinstance(path, str) or not path or "\0" in path:
        raise ValueError
    return path


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError
    return value


def _on_or_off(value: Any) -> bool:
    return {"1": True, "0": False, True: True, False: False}[value]


def _port_or_none(value: Any) -> Optional[int]:
    return None if value in (None, "none") else PORT.parse(value)


def _mode(value: Any) -> str:
    text = f"{value:04o}" if isinstance(value, int) else value
    if not re.match("0?[0-7]{3}$", text):
        raise ValueError
    return str(text)


def _address(value: Any) -> Tuple[str, int]:
    if isinstance(value, tuple):
        host, port = value
        return _text(host), PORT.parse(port)
    if isinstance(value, int):
        return LOOPBACK, PORT.parse(value)
    found = re.match(r"(?:(?:\[([^][]+)\]|([^][:]*)):)?([0-9]{1,5})\Z", value)
    if found is None:
        raise ValueError
    in_brackets, plain, port = found.groups()
    host = plain if in_brackets is None else in_brackets
    return LOOPBACK if host is None else host, PORT.parse(port)


def _names(value: Any) -> Tuple[str, ...]:
    names = tuple(value.split(",") if isinstance(value, str) else map(_text, value))
    if not all(re.match(r"[0-9A-Za-z_.-]+\Z", name) for name in names):
        raise ValueError
    return names


# Where a cluster is; of its parts, that part of the program takes care.
CLUSTER = re.compile(r"(?:valkey|redis)s?://.*[^/]:[0-9]{1,5}/?\Z")


def _store(value: Any) -> str:
    file_or_cluster = re.match("sqlite:.", _text(value)) or CLUSTER.match(value)
    if value != "memory" and not file_or_cluster:
        raise ValueError
    return str(value)


DURATION = Kind(_duration, "a duration above 0, in seconds or like 90s, 15m, 24h or 7d")
TEXT = Kind(_text, "text")
PATH = Kind(_path, "the path of a file")
FLAG = Kind(_on_or_off, "1 or 0")
PORT = whole_number(0, 65535)
PORT_OR_NONE = Kind(_port_or_none, "none or " + PORT.takes)
MODE = Kind(_mode, "an octal mode of a file, such as 0660")
ADDRESS = Kind(_address, "[HOST:]PORT, such as 8080, :8080 for every address, or [::1]:8080")
NAMES = Kind(_names, "names of this machine with commas between them")
STORE = Kind(_store, "memory, sqlite:PATH or valkey://HOST:PORT")

OPTIONS = (
    Option("host", LOOPBACK, TEXT, "HOST",
           "name or address to listen on; beyond this machine there is a warning, as there is no "
           "access control"),
    Option("port", 8888, PORT_OR_NONE, "PORT",
           "port to listen on; 0 takes any free one, none leaves TCP out"),
    Option("unix", None, PATH, "PATH",
           "a socket in the file system to listen on as well, for clients of this machine",
           "nowhere"),
    Option("unix_mode", "0600", MODE, "MODE",
           "who may use that socket, as a mode of a file: 0660 lets the group in"),
    Option("tls_cert", None, PATH, "PATH",
           "the server's certificate, and those it was issued with, in PEM: puts, gets and HTTP go "
           "over TLS, but for the unix socket", "no TLS"),
    Option("tls_key", None, PATH, "PATH",
           "the key of the certificate, in PEM", "in the certificate's file"),
    Option("tls_clients", None, PATH, "PATH",
           "certificates of authorities, in PEM: only clients with a certificate of theirs get in "
           "over TLS", "anyone"),
    Option("graphite", None, ADDRESS, "[HOST:]PORT",
           "where Graphite's lines are taken, over TCP and UDP; nothing is ever said to a sender",
           "nowhere"),
    Option("http", None, ADDRESS, "[HOST:]PORT",
           "where a page shows the points, and Grafana and Prometheus read them", "nowhere"),
    Option("http_host", (), NAMES, "NAME[,NAME...]",
           "names by which browsers may call that, beside localhost and addresses"),
    Option("self_metrics", False, FLAG, "",
           "put the server's own counters as well, under metricsd., every ten seconds"),
    Option("max_connections", 20000, whole_number(1), "N",
           "clients served at a time; more wait"),
    Option("max_line_bytes", 64 * 1024, whole_number(1), "N",
           "longest request, its line feed not counted; a longer one is answered with an error"),
    Option("max_points", None, whole_number(1), "N",
           "points stored in all; a put of one more is answered with an error", "no limit"),
    Option("retention", None, DURATION, "DURATION",
           "points are dropped when their timestamps are older than this: seconds, or 90s, 15m, "
           "24h, 7d", "kept for ever"),
    Option("idle_timeout", None, DURATION, "DURATION",
           "connections with nothing pending are closed when they have been silent for this long",
           "kept open"),
    Option("store", "memory", STORE, "STORE",
           "where points are kept: memory, which a restart empties; sqlite:PATH, a file; or "
           "valkey://[USER:PASSWORD@]HOST:PORT[,HOST:PORT...], a cluster, over TLS with valkeys:// "
           "(redis:// and rediss:// do as well)"),
    Option("store_password_file", None, TEXT, "PATH",
           "file whose first line is the password of the cluster", "none"),
    Option("ack", None, one_of("primary", "replica"), "WHO",
           "who has stored a put in the cluster when it is answered: the primary, or a replica of "
           "it too", "primary"),
    Option("fsync", None, one_of("always", "everysec", "never"), "POLICY",
           "when the file of the store is synced to the disk: always before the reply, everysec "
           "within a second, never when the system does it", "always"),
    Option("salvage", False, FLAG, "",
           "load all that is whole of a damaged store, and keep the damaged files aside"),
    Option("log_level", "info", one_of("debug", "info", "warning", "error"), "LEVEL",
           "how much is logged, on standard error", of_server=False),
    Option("trace", False, FLAG, "",
           "tell each step of the loop on standard error, to read along", of_server=False),
)  # fmt: skip


def checked(given: Mapping[str, Any]) -> Any:
    """The options of a server, each an attribute, with what was given and the other defaults.

    Raises OptionError for a value that an option does not take, TypeError for an unknown name.
    """
    rows = {option.name: option for option in OPTIONS if option.of_server}
    for name in given:
        if name not in rows:
            raise TypeError(f"there is no option {name!r}; there are {', '.join(rows)}")
    options = SimpleNamespace()
    for name, option in rows.items():
        value = given.get(name, option.default)
        # What has no value by default may be given as none, and a host that is none is every one.
        keep = value is None and (option.default is None or name == "host")
        setattr(options, name, value if keep else option.parse(value))
    _check_store(options)
    if options.tls_cert is None and (options.tls_key or options.tls_clients):
        name = "tls_key" if options.tls_key else "tls_clients"
        raise OptionError(name, "is for TLS: give tls_cert PATH as well")
    if options.port is None and options.unix is None:
        raise OptionError("port", "is none, so nobody could connect: give unix PATH as well")
    return options


def _check_store(options: Any) -> None:
    """Raise OptionError for an option that the kind of store does not know."""
    cluster = CLUSTER.match(options.store) is not None
    for name in ("fsync", "salvage"):
        if getattr(options, name) and (options.store == "memory" or cluster):
            raise OptionError(name, "is for a store that is a file: give store sqlite:PATH as well")
    for name in ("ack", "store_password_file"):
        if getattr(options, name) and not cluster:
            problem = "is for a store that is a cluster: give store valkey://HOST:PORT as well"
            raise OptionError(name, problem)
    if cluster and options.max_points is not None:
        problem = "can't be kept in a cluster: no front knows what the others have put"
        raise OptionError("max_points", problem + "; set maxmemory there")


def from_environment(environment: Mapping[str, str]) -> Dict[str, Any]:
    """The options that are set there, by name. Raises OptionError, naming the variable."""
    found: Dict[str, Any] = {}
    for option in OPTIONS:
        text: Optional[str] = environment.get(option.variable)
        if text is not None:
            try:
                found[option.name] = option.parse(text)
            except OptionError as error:
                raise OptionError(option.variable, error.problem) from None
    return found


def table() -> str:
    """All options as a table in Markdown."""
    lines: List[str] = ["| option | default | meaning |", "|---|---|---|"]
    for option in OPTIONS:
        default = f"`{option.said_default}`" if option.default else option.said_default
        lines.append(f"| `{option.flag}` | {default} | {option.help} |")
    return "\n".join(lines) + "\n"
