"""The server as a client on the wire sees it: versions, errors, limits, endings."""

from __future__ import annotations

import json
import socket
import time

import pytest

from agent.engine_api.connection import Limits
from tests.agent.engine_api.conftest import Serve, Served


def test_ping_negotiates(served: Served) -> None:
    got = served.request("GET", "/_ping")
    assert (got.status, got.body) == (200, b"OK")
    assert got.headers["Api-Version"] == "1.55"
    assert got.headers["Ostype"] == "linux" and got.headers["Docker-Experimental"] == "false"
    assert "no-cache" in got.headers["Cache-Control"] and got.headers["Swarm"] == "inactive"
    head = served.request("HEAD", "/_ping")
    assert (head.status, head.body, head.headers["Content-Length"]) == (200, b"", "2")


@pytest.mark.parametrize(
    ("version", "words"),
    [
        ("1.23", "too old. Minimum supported API version is 1.24"),
        ("1.99", "too new. Maximum supported API version is 1.55"),
    ],
)
def test_versions_out_of_range_are_refused_in_dockers_words(served: Served, version: str, words: str) -> None:
    got = served.request("GET", f"/v{version}/version")
    assert got.status == 400 and words in got.message


def test_versions_in_range_answer(served: Served) -> None:
    for path in ("/v1.24/version", "/v1.55/version", "/version"):
        assert served.get(path)["MinAPIVersion"] == "1.24"


def test_unknown_paths_and_methods(served: Served) -> None:
    assert (served.request("GET", "/nowhere").status, served.request("GET", "/nowhere").message) == (
        404,
        "page not found",
    )
    assert served.request("DELETE", "/version").status == 405
    assert served.request("GET", "/containers/x/json").message == "No such container: x"


def test_keep_alive_and_pipelining(served: Served) -> None:
    one = b"GET /_ping HTTP/1.1\r\nHost: d\r\n\r\n"
    answer = served.raw(one * 3)
    assert answer.count(b"HTTP/1.1 200") == 3


def test_http_1_0_ends_the_connection(served: Served) -> None:
    answer = served.raw(b"GET /_ping HTTP/1.0\r\n\r\n", end=False)
    assert answer.startswith(b"HTTP/1.1 200") and answer.endswith(b"OK")


@pytest.mark.parametrize(
    "garbage",
    [b"\x16\x03\x01\x02\x00\x01\x00", b"GET\r\n\r\n", b"GET /\xff HTTP/1.1\r\nHost: d\r\n\r\n"],
)
def test_garbage_is_refused(served: Served, garbage: bytes) -> None:
    answer = served.raw(garbage)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 400")
    assert served.request("GET", "/_ping").status == 200


def test_a_huge_header_is_refused(serving: Serve) -> None:
    served = serving(limits=Limits(header_bytes=4096))
    answer = served.raw(b"GET /_ping HTTP/1.1\r\nHost: d\r\nX: " + b"a" * 100_000)
    assert answer.startswith((b"HTTP/1.1 431", b"HTTP/1.1 400"))


def test_a_slow_header_is_cut_off(serving: Serve) -> None:
    served = serving(limits=Limits(header_seconds=0.1))
    assert served.raw(b"GET /_ping HTTP/1.1\r\nHo", end=False) == b""


def test_an_idle_client_is_cut_off(serving: Serve) -> None:
    served = serving(limits=Limits(idle_seconds=0.1))
    assert served.raw(b"", end=False) == b""


def test_a_stalled_body_is_cut_off(serving: Serve) -> None:
    served = serving(limits=Limits(stall_seconds=0.1))
    head = b"POST /containers/create HTTP/1.1\r\nHost: d\r\nContent-Length: 100\r\n\r\n{"
    assert b"500" not in served.raw(head, end=False)[:20]


def test_too_many_connections_are_refused(serving: Serve) -> None:
    served = serving(limits=Limits(connections=2))
    held = [served.connect() for _ in range(2)]
    for sock in held:
        sock.sendall(b"GET /_ping HTTP/1.1\r\nHost: d\r\n\r\n")
        assert sock.recv(100)
    with served.connect() as third:
        try:
            third.sendall(b"GET /_ping HTTP/1.1\r\nHost: d\r\n\r\n")
            assert third.recv(100) == b""
        except ConnectionError:
            pass
    for sock in held:
        sock.close()


@pytest.mark.parametrize(
    ("body", "words"),
    [(b"{", "invalid JSON"), (b"[1]", "invalid JSON"), (b'{"Image": 7}', "Image"), (b"{}", "no image specified")],
)
def test_malformed_bodies_are_named(served: Served, body: bytes, words: str) -> None:
    got = served.request("POST", "/containers/create", body)
    assert got.status == 400 and words in got.message


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        ({"Cmd": ["sh", "a\0b"]}, "Cmd.1: a text with a NUL character"),
        ({"Labels": {"a\0b": "x"}}, "Labels: a text with a NUL character"),
        ({"HostConfig": {"Binds": ["/a\ud800:/b"]}}, "HostConfig.Binds.0: half of a surrogate pair"),
        ({"HostConfig": {"Ulimits": [{"Name": "nofile", "Hard": 2**63}]}}, "Ulimits.0.Hard: the number does not fit"),
    ],
)
def test_what_no_kernel_takes_is_named(served: Served, tree: dict[str, object], words: str) -> None:
    got = served.request("POST", "/containers/create", {"Image": "a", **tree})
    assert got.status == 400 and words in got.message


def test_a_whole_surrogate_pair_is_a_character(served: Served) -> None:
    made = served.post("/volumes/create", {"Labels": {"a": "\ud83d\ude00"}})
    assert made["Labels"]["a"] == "\U0001f600"


def test_a_path_with_a_nul_is_refused(served: Served) -> None:
    assert served.request("GET", "/containers/a%00b/json").status == 400


def test_deeply_nested_json_is_refused(served: Served) -> None:
    assert served.request("POST", "/containers/create", b"[" * 100_000).status == 400


def test_an_endless_body_is_refused(served: Served) -> None:
    got = served.request("POST", "/containers/create", b" " * (9 << 20))
    assert got.status == 400 and "larger than" in got.message


def test_expect_100_continue(served: Served) -> None:
    with served.connect() as sock:
        body = json.dumps({"Image": ""}).encode()
        head = "POST /containers/create HTTP/1.1\r\nHost: d\r\n"
        head += f"Expect: 100-continue\r\nContent-Length: {len(body)}\r\n\r\n"
        sock.sendall(head.encode())
        assert sock.recv(1000).startswith(b"HTTP/1.1 100")
        sock.sendall(body)
        assert sock.recv(1000).startswith(b"HTTP/1.1 400")


def test_a_client_that_leaves_frees_its_stream(served: Served) -> None:
    hub = served.server._api.hub
    with served.connect() as sock:
        sock.sendall(b"GET /events HTTP/1.1\r\nHost: d\r\n\r\n")
        assert b"200" in sock.recv(1000)
        _until(lambda: len(hub.listeners) == 1)
    _until(lambda: not hub.listeners)


def test_closing_ends_streams_cleanly(served: Served) -> None:
    with served.connect() as sock:
        sock.sendall(b"GET /events HTTP/1.1\r\nHost: d\r\n\r\n")
        assert b"200" in sock.recv(1000)
        served.call(served.server.close())
        rest = b"".join(iter(lambda: sock.recv(1000), b""))
        assert rest.endswith(b"0\r\n\r\n")


def test_swarm_and_plugins_say_so(served: Served) -> None:
    assert served.request("GET", "/nodes").status == 503
    assert "not a swarm manager" in served.request("POST", "/services/create", {}).message
    assert served.request("POST", "/plugins/pull?remote=x").status == 501
    assert served.get("/plugins") == []


def _until(holds: object, seconds: float = 5) -> None:
    deadline = time.monotonic() + seconds
    while not holds():  # type: ignore[operator]
        assert time.monotonic() < deadline, "it did not become so"
        time.sleep(0.01)


def test_a_half_closed_client_still_gets_its_answer(served: Served) -> None:
    with served.connect() as sock:
        sock.sendall(b"GET /version HTTP/1.1\r\nHost: d\r\n\r\n")
        sock.shutdown(socket.SHUT_WR)
        assert b"ApiVersion" in b"".join(iter(lambda: sock.recv(65536), b""))
