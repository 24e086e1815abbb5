"""How registries are reached: proxies, logins from helpers, waiting as told, long lists."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import random
import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from runtime.errors import CorruptData, TimedOut, Unauthorized, Unavailable
from runtime.image import manifest as m
from runtime.image.blobs import Blobs
from runtime.image.challenge import Credentials
from runtime.image.credentials import lookup
from runtime.image.download import Download
from runtime.image.proxies import proxy_for
from runtime.image.registry import Registry
from runtime.image.session import Session, retry_after
from runtime.image.settings import RegistryHost, Settings, endpoints
from tests.runtime.image import registry_fake as f
from tests.runtime.image.registries import make_certificates, registry
from tests.runtime.image.world import QUICK, Made, Site, digest_of, make

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="privileged: workers confine themselves, which takes root")


@pytest.fixture(scope="module")
def image() -> Made:
    return make({"big": os.urandom(100_000)}, Cmd=["/big"])


def pull(site: Site, name: str) -> str:
    async def run() -> str:
        try:
            return (await site.images.pull(name)).id
        finally:
            await site.close()

    return asyncio.run(run())


# ---------------------------------------------------------------- proxies


class Proxy(socketserver.StreamRequestHandler):
    """An HTTP proxy that knows every name as this machine, for GET and HEAD of http and for CONNECT."""

    seen: list[tuple[str, str]]
    login: str

    def handle(self) -> None:
        line = self.rfile.readline().decode()
        if not line:
            return
        headers = dict(text.decode().strip().split(": ", 1) for text in iter(self.rfile.readline, b"\r\n"))
        method, target, _ = line.split(" ")
        self.seen.append((method, target))
        if headers.get("Proxy-Authorization", "") != self.login:
            self.wfile.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
            return
        port = int(target.rpartition(":")[2]) if method == "CONNECT" else urlsplit(target).port or 80
        with socket.create_connection(("127.0.0.1", port)) as there:
            if method == "CONNECT":
                self.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
            else:
                parts = urlsplit(target)
                wanted = "".join(f"{key}: {value}\r\n" for key, value in headers.items() if key != "Connection")
                there.sendall(f"{method} {parts.path} HTTP/1.1\r\n{wanted}Connection: close\r\n\r\n".encode())
            back = threading.Thread(target=self._copy, args=(there, self.connection), daemon=True)
            back.start()
            if method == "CONNECT":
                self._copy(self.connection, there)
            back.join()

    @staticmethod
    def _copy(source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # one side is done


@contextmanager
def proxy(login: str = "") -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """A proxy; its address and what was asked of it."""
    seen: list[tuple[str, str]] = []
    header = "Basic " + base64.b64encode(login.encode()).decode() if login else ""
    handler = type("Bound", (Proxy,), {"seen": seen, "login": header})
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"127.0.0.1:{server.server_address[1]}", seen
        server.shutdown()


@as_root
@pytest.mark.parametrize("login", ["", "me:se%40cret"])
def test_plain_http_through_a_proxy(login: str, image: Made, scratch: Path) -> None:
    with f.FakeRegistry() as known, proxy(login.replace("%40", "@")) as (address, seen):
        known.serve(image)
        name = f"registry.test:{known.port}"
        at = f"http://{login}@{address}" if login else address
        settings = replace(QUICK, http_proxy=at, https_proxy=at, hosts={name: RegistryHost(insecure=True)})
        assert pull(Site(scratch, settings, unpacks=False), f"{name}/app:1") == image.id
        assert any(target.startswith(f"http://{name}/v2/app/blobs/") for _, target in seen)


@as_root
@pytest.mark.peer
def test_https_through_a_proxy(image: Made, scratch: Path) -> None:
    """The tunnel is the proxy's, the certificate the registry's; who speaks to the proxy in plain is no matter."""
    authority, certificate, key = make_certificates(scratch)
    with registry(scratch, http={"tls": {"certificate": str(certificate), "key": str(key)}}) as host:
        name = host.replace("127.0.0.1", "registry.test")
        with proxy() as (address, seen):
            trusting = replace(QUICK, https_proxy=address, hosts={name: RegistryHost(ca_file=str(authority))})
            with (
                Registry(trusting, name, {}) as client,
                pytest.raises(Unavailable, match=r"cannot trust registry\.test"),
            ):
                client.check()  # the certificate is for 127.0.0.1
            anyhow = replace(trusting, hosts={name: RegistryHost(insecure=True)})
            with Registry(anyhow, name, {}) as client:
                client.check()
            assert ("CONNECT", name) in seen


def test_a_proxy_that_is_not_there_is_named(scratch: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with Registry(replace(QUICK, https_proxy=address), "registry.test", {}) as client:
        with pytest.raises(Unavailable, match=f"through proxy {address}: connection refused"):
            client.check()


DIRECT = [
    ("registry.test", "*"), ("registry.test", "registry.test"), ("registry.test", ".test"), ("registry.test", "test"),
    ("registry.test", "*.test"), ("registry.test:5000", "registry.test:5000"), ("10.1.2.3:5000", "10.1.0.0/16"),
    ("10.1.2.3", "10.1.2.3"), ("[fd00::1]:5000", "fd00::/8"), ("localhost:5000", ""), ("127.0.0.9", ""),
    ("[::1]:5000", ""),
]  # fmt: skip
THROUGH = [
    ("registry.test", ""), ("registry.test", "other.test"), ("myregistry.test", "registry.test"),
    ("test", ".test"), ("registry.test:5001", "registry.test:5000"), ("10.2.2.3", "10.1.0.0/16"),
    ("registry.test", "10.0.0.0/8"), ("fd00.example", "fd00::/8"),
]  # fmt: skip


@pytest.mark.parametrize(("host", "no_proxy", "direct"), [(*d, True) for d in DIRECT] + [(*t, False) for t in THROUGH])
def test_no_proxy_is_read_as_go_does(host: str, no_proxy: str, direct: bool) -> None:
    settings = Settings(https_proxy="proxy.test:3128", no_proxy=("unrelated.example", no_proxy))
    found = proxy_for(settings, urlsplit(f"https://{host}/v2/"))
    assert (found is None) == direct
    assert proxy_for(settings, urlsplit(f"http://{host}/v2/")) is None, "there is none for http"


# ---------------------------------------------------------------- logins


@pytest.fixture
def helper(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A credential helper `docker-credential-test`; what it does is written into it by the test."""
    program = scratch / "docker-credential-test"
    program.write_text("")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{scratch}:{os.environ['PATH']}")
    return program


def asked(scratch: Path, config: object, registry_name: str = "registry.test") -> Credentials:
    path = scratch / "config.json"
    path.write_text(json.dumps(config))
    return lookup(str(path), registry_name)


ANSWERS = (
    '#!/bin/sh\nread server; [ "$1" = get ] && echo "{\\"Username\\": \\"%s\\", \\"Secret\\": \\"for $server\\"}"\n'
)


def test_a_credential_helper_of_one_registry(helper: Path, scratch: Path) -> None:
    helper.write_text(ANSWERS % "me")
    config = {"credHelpers": {"registry.test": "test"}, "auths": {"registry.test": {"auth": "eDp5"}}}
    assert asked(scratch, config) == Credentials(username="me", password="for registry.test")
    assert asked(scratch, config, "other.test") == Credentials()


def test_a_credential_store_of_all_registries(helper: Path, scratch: Path) -> None:
    helper.write_text(ANSWERS % "<token>")
    assert asked(scratch, {"credsStore": "test"}, "docker.io") == Credentials(
        identity_token="for https://index.docker.io/v1/"
    )


def test_a_helper_that_knows_nothing(helper: Path, scratch: Path) -> None:
    helper.write_text("#!/bin/sh\necho credentials not found in native keychain; exit 1\n")
    assert asked(scratch, {"credsStore": "test"}) == Credentials()


@pytest.mark.parametrize(
    ("program", "saying", "kind"),
    [
        ("#!/bin/sh\nexit 3\n", "ended with status 3", Unavailable),
        ("#!/bin/sh\necho not json\n", "cannot use the answer of docker-credential-test", CorruptData),
        ("", "", None),
    ],
)
def test_a_broken_helper_is_named(
    program: str, saying: str, kind: type[Exception] | None, helper: Path, scratch: Path
) -> None:
    if kind is None:
        helper.unlink()
        saying, kind = "cannot run docker-credential-test: No such file or directory", Unavailable
    else:
        helper.write_text(program)
    with pytest.raises(kind, match=saying):
        asked(scratch, {"credHelpers": {"registry.test": "test"}})


def test_a_helper_must_be_a_program_name(scratch: Path) -> None:
    with pytest.raises(CorruptData, match="not a program name"):
        asked(scratch, {"credsStore": "../../bin/sh"})


def test_a_login_is_checked_by_the_registry() -> None:
    with f.FakeRegistry(auth="basic", login=("me", "secret")) as known:
        good, bad = (Credentials(username="me", password=p) for p in ("secret", "wrong"))
        with Registry(QUICK, known.host, {known.host: good}) as client:
            client.check()
        with Registry(QUICK, known.host, {known.host: bad}) as client, pytest.raises(Unauthorized):
            client.check()


# ---------------------------------------------------------------- waiting


def test_retry_after_is_waited_for() -> None:
    slept: list[float] = []
    with f.FakeRegistry(faults={"/v2/$": [f.status(429, retry_after="7"), f.status(503, retry_after="4000")]}) as known:
        (place,) = endpoints(QUICK, known.host)
        session = Session(QUICK, place, Credentials(), sleep=slept.append)
        session.request("GET", "/v2/", scope="")
        session.close()
    assert slept == [7.0, 300.0], "as told, but not for ever"


def test_pauses_grow_with_jitter() -> None:
    (place,) = endpoints(QUICK, "127.0.0.1:1")
    session = Session(replace(QUICK, backoff=1.0), place, Credentials())
    for attempt, usual in ((1, 1.0), (2, 2.0), (5, 16.0), (20, 300.0)):
        pauses = [session.pause(attempt) for _ in range(50)]
        assert usual * 0.5 <= min(pauses) < max(pauses) <= usual * 1.5


@pytest.mark.parametrize(("text", "seconds"), [("3", 3.0), ("", None), ("soon", None), ("-1", None)])
def test_retry_after_in_every_form(text: str, seconds: float | None) -> None:
    assert retry_after(text) == seconds


@pytest.mark.parametrize("place", ["/manifests/", "configuration"])
@as_root
def test_a_document_that_breaks_off_is_asked_for_again(place: str, image: Made, scratch: Path) -> None:
    pattern = image.id if place == "configuration" else place
    with f.FakeRegistry(faults={pattern: [f.drop_after(0.5), f.drop_after(0)]}) as known:
        assert pull(Site(scratch, QUICK, unpacks=False), known.serve(image)) == image.id


@as_root
def test_a_registry_that_stalls_holds_up_nobody_else(image: Made, scratch: Path) -> None:
    other = make({"other": b"1"})
    with f.FakeRegistry(faults={"/v2/slow/blobs/": [f.silent] * 99}) as known:
        slow, quick = known.serve(image, "slow"), known.serve(other, "quick")
        site = Site(scratch, QUICK, unpacks=False)

        async def run() -> None:
            stuck = asyncio.create_task(site.images.pull(slow))
            assert (await site.images.pull(quick)).id == other.id
            assert not stuck.done()
            with pytest.raises(TimedOut):
                await stuck
            await site.close()

        asyncio.run(run())


# ---------------------------------------------------------------- bytes and lists


def test_a_hundred_wrong_digests_leave_no_byte(scratch: Path) -> None:
    """F17: each a bit somewhere else; three tries, then an error, and nothing in the store."""
    chance, data = random.Random(4), os.urandom(5000)
    blobs = Blobs(str(scratch))
    blobs.make()
    for _ in range(100):
        wrong = bytearray(data)
        wrong[chance.randrange(len(wrong))] ^= 1 << chance.randrange(8)
        with f.FakeRegistry(blobs={digest_of(data): bytes(wrong)}) as known, Registry(QUICK, known.host, {}) as client:
            download = Download(blobs, QUICK, digest_of(data), len(data), lambda _: None)
            with pytest.raises(CorruptData, match="the registry sent sha256:"):
                download.run(client, "app", sleep=lambda _: None)
            assert len(known.asked("GET", "/blobs/")) == 3
        assert os.listdir(blobs.directory) == os.listdir(blobs.ingests) == []


def test_referrers_come_from_the_list_or_from_the_tag(image: Made) -> None:
    signature = {"mediaType": m.OCI_MANIFEST, "digest": "sha256:" + "1" * 64, "size": 5, "artifactType": "x/signature"}
    found = json.dumps({"schemaVersion": 2, "mediaType": m.OCI_INDEX, "manifests": [signature]}).encode()
    with f.FakeRegistry() as known, Registry(QUICK, known.host, {}) as client:
        assert client.referrers("app", image.digest) == ()
        known.serve_document(found, m.OCI_INDEX, "app", image.digest.replace(":", "-"))
        assert [one.digest for one in client.referrers("app", image.digest)] == [signature["digest"]]

    def answers(handler: f.Handler, _: bytes) -> bool:
        handler.send(found, m.OCI_INDEX)
        return True

    with f.FakeRegistry(faults={"/referrers/": [answers]}) as known, Registry(QUICK, known.host, {}) as client:
        assert [one.digest for one in client.referrers("app", image.digest)] == [signature["digest"]]


def test_tags_come_page_by_page() -> None:
    def page(tags: list[str], following: str) -> f.Fault:
        def answers(handler: f.Handler, _: bytes) -> bool:
            handler.send(json.dumps({"tags": tags}).encode(), "application/json", Link=following)
            return True

        return answers

    pages = [
        page(["1", "2"], '</v2/app/tags/list?n=2&last=2>; rel="next"'),
        page(["3"], "<https://evil.test/>; rel=next"),
    ]
    with f.FakeRegistry(faults={"/tags/list": pages}) as known, Registry(QUICK, known.host, {}) as client:
        assert client.tags("app") == ("1", "2", "3")
        assert [one.path for one in known.asked("GET", "/tags/")][1].endswith("?n=2&last=2")
