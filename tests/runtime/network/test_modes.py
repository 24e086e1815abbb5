"""Network modes and the files for names: text in, text out."""

from __future__ import annotations

import pytest

from runtime.errors import InvalidInput
from runtime.network.modes import Mode, hosts_text, parse_mode, resolv_text, split_extra_host

HOST = "# made by hand\nnameserver 127.0.0.53\nnameserver 192.0.2.53\nsearch lan corp\noptions edns0 ndots:2\n"


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        ("bridge", Mode("private")),
        ("default", Mode("private")),
        ("app_default", Mode("private")),
        ("host", Mode("host")),
        ("none", Mode("none")),
        ("container:abc", Mode("join", "abc")),
    ],
)
def test_modes(text: str, mode: Mode) -> None:
    assert parse_mode(text) == mode


def test_a_mode_without_its_container_is_refused() -> None:
    with pytest.raises(InvalidInput, match="name a container"):
        parse_mode("container:")


def test_hosts() -> None:
    text = hosts_text(
        "web",
        domainname="example.com",
        addresses=["172.17.0.2", "fd00::2"],
        extra_hosts=["db:10.0.0.5", "v6=fd00::9", "me:host-gateway"],
        host_gateway="172.17.0.1",
        names={"old": ["172.17.0.9"]},
        ipv6=False,
    )
    assert text == (
        "127.0.0.1\tlocalhost\n"
        "10.0.0.5\tdb\n"
        "fd00::9\tv6\n"
        "172.17.0.1\tme\n"
        "172.17.0.9\told\n"
        "172.17.0.2\tweb.example.com web\n"
        "fd00::2\tweb.example.com web\n"
    )
    assert "::1\tlocalhost ip6-localhost" in hosts_text("web")


@pytest.mark.parametrize(("entry", "found"), [("a:::1", ("a", "::1")), ("a=[fd00::1]", ("a", "fd00::1"))])
def test_extra_hosts(entry: str, found: tuple[str, str]) -> None:
    assert split_extra_host(entry) == found


@pytest.mark.parametrize("entry", ["a", "a:", ":1.2.3.4", "a:b", "a b:1.2.3.4", "a=1.2.3"])
def test_bad_extra_hosts(entry: str) -> None:
    with pytest.raises(InvalidInput, match="cannot use extra host"):
        split_extra_host(entry)


def test_host_gateway_needs_a_gateway() -> None:
    with pytest.raises(InvalidInput, match="no gateway"):
        hosts_text("web", extra_hosts=["me:host-gateway"])


def test_resolv_conf() -> None:
    assert resolv_text(HOST, gateways=["172.17.0.1"]) == (
        "nameserver 172.17.0.1\nsearch lan corp\noptions edns0 ndots:2\n"
    )
    assert resolv_text("", gateways=["172.17.0.1"]) == "nameserver 172.17.0.1\noptions ndots:0\n"
    assert resolv_text(HOST) == "nameserver 127.0.0.53\nnameserver 192.0.2.53\nsearch lan corp\noptions edns0 ndots:2\n"
    assert resolv_text(HOST, servers=["9.9.9.9"], search=["."], options=["timeout:1"]) == (
        "nameserver 9.9.9.9\noptions timeout:1\n"
    )
