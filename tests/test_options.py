"""The options: what each takes, in Python, on the command line and in the environment."""

import argparse
import re
from pathlib import Path
from typing import Any, Dict, List

import pytest

import metricsd
from metricsd import OptionError, Server, __main__
from metricsd.options import ADDRESS, OPTIONS, checked, from_environment, table
from metricsd.protocol import MAX_LINE_BYTES

ROOT = Path(metricsd.__file__).parent.parent

GOOD: Dict[str, List[Any]] = {
    "host": [("::1", "::1"), ("", "")],
    "port": [("0", 0), ("65535", 65535), (8888, 8888), ("none", None), (None, None)],
    "unix": [("/a b", "/a b"), ("x.sock", "x.sock")],
    "tls_cert": [("/a b", "/a b")],
    "unix_mode": [("0660", "0660"), ("600", "600"), (0o666, "0666"), (0o7, "0007")],
    "max_connections": [("1", 1), (7, 7)],
    "max_line_bytes": [("1", 1), (65536, 65536)],
    "max_points": [("1000000", 10**6), (1, 1)],
    "retention": [
        ("5", 5.0), ("90s", 90), ("15m", 900), ("24h", 86400), ("7d", 604800), ("2.5", 2.5),
        (5, 5), (0.5, 0.5), ("007s", 7),
    ],
    "idle_timeout": [("5s", 5), ("2.5", 2.5), ("1m", 60), (1e-6, 1e-6)],
    "store": [("memory", "memory"), ("sqlite:a b.db", "sqlite:a b.db"),
        ("valkey://a:1", "valkey://a:1"), ("rediss://u:p@[::1]:1,b:2", "rediss://u:p@[::1]:1,b:2"),
    ],
    "log_level": [("debug", "debug")],
    "trace": [("1", True), ("0", False), (True, True)],
}  # fmt: skip

BAD: Dict[str, List[Any]] = {
    "port": ["65536", "-1", "http", "", 65536, -1, 1.5, True, "None"],
    "unix": ["", 7, "a\0b"],
    "unix_mode": ["", "rw", "0880", "01777", -1, 0o1777, 1.5],
    "max_connections": ["0", "many", 0, -1, "1.5"],
    "max_line_bytes": ["-5", 0],
    "max_points": ["0", "1e6", -1, 1e6, float("nan"), True],
    "retention": [
        "0", "0s", "1.5h", "-1d", "1w", "", "٩s", "nan", "inf", -1, 0, float("inf"), [], "h", "s5",
    ],
    "idle_timeout": ["0", "nan", "inf", "long", -1, 0, float("nan"), True],
    "store": [
        "", "disk", "sqlite:", "sqlite", "memory:x", "valkey://", "valkey://a", "http://a:1",
        None, 7,
    ],
    "ack": ["all", "", True],
    "store_password_file": [7],
    "fsync": ["often", "", True],
    "salvage": ["yes", 2, None],
    "log_level": ["loud", ""],
    "trace": ["on", ""],
}  # fmt: skip


def row(name: str) -> Any:
    (found,) = [option for option in OPTIONS if option.name == name]
    return found


@pytest.mark.parametrize("name, case", [(n, case) for n, cases in GOOD.items() for case in cases])
def test_what_it_takes(name: str, case: Any) -> None:
    given, meant = case
    found = row(name).parse(given)
    assert found == meant
    assert type(found) is type(meant)


@pytest.mark.parametrize("name, value", [(n, value) for n, cases in BAD.items() for value in cases])
def test_what_it_does_not_take(name: str, value: Any) -> None:
    option = row(name)
    if value is not None or option.default is not None:
        with pytest.raises(OptionError) as failure:
            option.parse(value)
        assert str(failure.value) == f"{name} takes {option.kind.takes}, not {value!r}"


@pytest.mark.parametrize(
    "given, meant",
    [
        ("8080", ("127.0.0.1", 8080)),
        (8080, ("127.0.0.1", 8080)),
        ("0", ("127.0.0.1", 0)),
        (":80", ("", 80)),
        ("example.org:65535", ("example.org", 65535)),
        ("[::1]:80", ("::1", 80)),
        ("[fe80::1%eth0]:80", ("fe80::1%eth0", 80)),
        (("::1", 80), ("::1", 80)),
    ],
)
def test_an_address_is_a_port_and_maybe_a_host(given: Any, meant: Any) -> None:
    assert ADDRESS.parse(given) == meant
    assert ADDRESS.parse(meant) == meant


@pytest.mark.parametrize(
    "given",
    ["", ":", "localhost", "localhost:", "::1:80", "[]:80", "[::1]80", "a:65536", "80\n", " 80",
     "٨٠", -1, 65536, 1.5, True, None, ("a",), (None, 80), ("a", "b")],
)  # fmt: skip
def test_what_is_no_address(given: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        ADDRESS.parse(given)


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_a_row_is_whole(option: Any) -> None:
    assert option.help
    assert option.said_default
    if option.default is not None and option.default != "memory":
        assert option.parse(option.default) == option.default


def test_every_error_names_the_option_from_python_too() -> None:
    for name, values in BAD.items():
        if row(name).of_server and name not in ("port", "host"):
            with pytest.raises(ValueError, match=f"^{name} takes "):
                Server("127.0.0.1", 0, **{name: values[0]})


def test_durations_are_understood_from_python() -> None:
    options = checked({"retention": "1h", "idle_timeout": "5s", "max_points": None})
    assert options.retention == 3600
    assert options.idle_timeout == 5
    assert options.max_points is None
    assert options.port == 8888


def test_an_unknown_name() -> None:
    with pytest.raises(TypeError, match=r"there is no option 'max_point'; there are host, "):
        Server("127.0.0.1", 0, max_point=1)
    with pytest.raises(TypeError, match=r"'trace'"):
        Server("127.0.0.1", 0, trace=True)


@pytest.mark.parametrize("name", ["tls_key", "tls_clients"])
def test_what_is_for_tls_needs_a_certificate(name: str) -> None:
    with pytest.raises(OptionError, match=f"^{name} is for TLS: give tls_cert PATH as well"):
        checked({name: "x.pem"})


@pytest.mark.parametrize("name, value", [("fsync", "always"), ("salvage", True)])
def test_what_is_for_a_file_needs_one(name: str, value: Any) -> None:
    with pytest.raises(OptionError, match=f"^{name} is for a store that is a file: give store "):
        Server("127.0.0.1", 0, **{name: value})


@pytest.mark.parametrize("store", ["memory", "sqlite:x.db"])
@pytest.mark.parametrize("name, value", [("ack", "replica"), ("store_password_file", "x")])
def test_what_is_for_a_cluster_needs_one(store: str, name: str, value: Any) -> None:
    with pytest.raises(OptionError, match=f"^{name} is for a store that is a cluster: give store "):
        Server("127.0.0.1", 0, store=store, **{name: value})


@pytest.mark.parametrize("name, value", [("max_points", 5), ("fsync", "never"), ("salvage", True)])
def test_what_a_cluster_does_not_take(name: str, value: Any) -> None:
    with pytest.raises(OptionError, match=f"^{name} (can't be kept in a cluster|is for a store)"):
        Server("127.0.0.1", 0, store="valkey://127.0.0.1:1", **{name: value})


def test_the_environment() -> None:
    environment = {
        "METRICSD_PORT": "0",
        "METRICSD_RETENTION": "1h",
        "METRICSD_TRACE": "1",
        "METRICSD_COLOUR": "blue",  # unknown
        "PORT": "7",
    }
    assert from_environment(environment) == {"port": 0, "retention": 3600, "trace": True}


def test_a_mistake_in_the_environment_names_the_variable() -> None:
    with pytest.raises(
        OptionError, match=r"^METRICSD_PORT takes none or a whole number .*, not 'http'$"
    ):
        from_environment({"METRICSD_PORT": "http"})


@pytest.mark.parametrize("store", ["valkye://me:geheim@h:1", "valkey://:geheim@h"])
def test_a_mistake_is_told_without_a_password(store: str) -> None:
    with pytest.raises(OptionError, match=r"not 'valk[a-z]+://\.\.\.@h.*'$"):
        from_environment({"METRICSD_STORE": store})


def test_the_command_line_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: Dict[str, Any] = {}
    monkeypatch.setattr(__main__, "run_server", lambda **options: seen.update(options))
    monkeypatch.setenv("METRICSD_PORT", "1")
    monkeypatch.setenv("METRICSD_MAX_POINTS", "2")
    assert __main__.main(["--port", "3", "--retention", "5"]) == 0
    assert (seen["port"], seen["max_points"], seen["retention"]) == (3, 2, 5)
    assert seen["host"] == "127.0.0.1"


@pytest.mark.parametrize("variable, value", [("METRICSD_PORT", "x"), ("METRICSD_SALVAGE", "1")])
def test_a_mistake_in_the_environment_is_one_clear_line(
    variable: str, value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SystemExit) as ended:
        __main__.main([])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("metricsd: ")
    assert variable.rsplit("_", 1)[1] in said.upper()
    assert said.count("\n") == 1


def test_the_environment_is_the_command_line_s_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METRICSD_MAX_POINTS", "nonsense")
    Server("127.0.0.1", 0).close()


def test_help_tells_of_each() -> None:
    said = re.sub(r"\s+", " ", __main__.make_parser().format_help())
    for option in OPTIONS:
        assert option.flag in said
        assert re.sub(r"\s+", "", f"{option.help} ({option.said_default})") in said.replace(" ", "")


def test_a_new_row_is_an_option(monkeypatch: pytest.MonkeyPatch) -> None:
    new = row("max_points")._replace(name="max_series", help="series in all")
    for module in ("metricsd.options", "metricsd.__main__"):
        monkeypatch.setattr(module + ".OPTIONS", (*OPTIONS, new))
    assert checked({"max_series": "7"}).max_series == 7
    assert from_environment({"METRICSD_MAX_SERIES": "7"}) == {"max_series": 7}
    assert __main__.make_parser().parse_args(["--max-series", "7"]).max_series == 7
    assert "| `--max-series` | no limit | series in all |" in table()


def test_the_limit_of_a_line_is_the_protocol_s() -> None:
    assert row("max_line_bytes").default == MAX_LINE_BYTES


def test_the_readme_has_the_table() -> None:
    assert table() in (ROOT / "metricsd" / "OPERATING.md").read_text(encoding="utf-8")


def test_the_parser_has_nothing_else() -> None:
    flags = {
        flag
        for action in __main__.make_parser()._actions
        if not isinstance(action, argparse._HelpAction)
        for flag in action.option_strings
    }
    assert flags == {option.flag for option in OPTIONS} | {"--version"}
