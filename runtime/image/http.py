"""One HTTP exchange over http.client: connections kept, TLS, proxies, deadlines; nothing about registries.

Blocking on purpose: it runs in worker processes and threads. Every wait is bounded: connecting, the header as a
whole (a server may not drip it), and each piece of the body.
"""

from __future__ import annotations

import base64
import http.client
import os
import socket
import ssl
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from urllib.parse import SplitResult, unquote, urlsplit

from runtime.errors import CorruptData, InvalidInput, TimedOut, Unavailable
from runtime.image.proxies import proxy_for
from runtime.image.settings import RegistryHost, Settings

Body = bytes | Iterable[bytes] | None
_HEADER_TIMEOUT_FACTOR = 2


@dataclass(slots=True)
class Response:
    """Status, headers by lower-case name, and a body to be read once."""

    url: str
    status: int
    headers: Mapping[str, str]
    raw: http.client.HTTPResponse

    def read1(self, size: int) -> bytes:
        """Some bytes as they come, b"" at the end. Raises TimedOut, Unavailable."""
        with translated(self.url):
            return self.raw.read1(size)

    def read(self, limit: int) -> bytes:
        """The whole body of at most `limit` bytes. Raises CorruptData when it is longer, Unavailable when it is cut."""
        with translated(self.url):
            data = self.raw.read(limit + 1)
        if len(data) > limit:
            raise CorruptData(f"cannot use the answer of {self.url}: longer than {limit} bytes")
        if self.raw.length:
            raise Unavailable(f"cannot use the answer of {self.url}: cut after {len(data)} bytes")
        return data


class Connections:
    """Kept connections of one thread, one per origin."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._kept: dict[tuple[str, str, bool], http.client.HTTPConnection] = {}

    def request(
        self, method: str, url: str, headers: Mapping[str, str], options: RegistryHost, body: Body = None
    ) -> Response:
        """Send one request and read the header of its answer. A kept connection that died is opened again."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
            raise InvalidInput(f"cannot ask {url[:200]!r}: not an http address")
        key = (parts.scheme, parts.netloc, options.insecure)
        fresh = key not in self._kept
        try:
            return self._send(key, method, parts, headers, options, body)
        except (http.client.RemoteDisconnected, ConnectionError) as error:
            self.drop(url)
            if fresh or not isinstance(body, bytes | None):
                raise Unavailable(f"cannot reach {parts.netloc}: {cause_of(error)}") from error
            with translated(url):
                return self._send(key, method, parts, headers, options, body)

    def drop(self, url: str) -> None:
        """Close the connection of an origin, because an answer of it was not read to its end."""
        parts = urlsplit(url)
        for key in [key for key in self._kept if key[:2] == (parts.scheme, parts.netloc)]:
            self._kept.pop(key).close()

    def close(self) -> None:
        """Close all."""
        for connection in self._kept.values():
            connection.close()
        self._kept.clear()

    def _send(
        self,
        key: tuple[str, str, bool],
        method: str,
        parts: SplitResult,
        headers: Mapping[str, str],
        options: RegistryHost,
        body: Body,
    ) -> Response:
        url = parts.geturl()
        connection = self._kept.get(key)
        if connection is None:
            proxy = proxy_for(self._settings, parts)
            with translated(url, keep=() if proxy else (ConnectionError,), proxy=proxy.netloc if proxy else ""):
                connection = self._connect(parts, options, proxy)
            self._kept[key] = connection
        target, sent = _target(parts), dict(headers)
        if parts.scheme == "http" and (proxy := proxy_for(self._settings, parts)):
            target, sent = url, sent | _proxy_login(proxy)
        try:
            with translated(url, keep=(ConnectionError,)), self._deadline(connection):
                connection.request(method, target, body=body, headers=sent)
                raw = connection.getresponse()
        except BaseException:
            self.drop(url)
            raise
        if raw.will_close:
            self._kept.pop(key, None)
        return Response(url, raw.status, {name.lower(): value for name, value in raw.getheaders()}, raw)

    def _connect(
        self, parts: SplitResult, options: RegistryHost, proxy: SplitResult | None
    ) -> http.client.HTTPConnection:
        host = proxy.hostname if proxy else parts.hostname
        port = (proxy or parts).port or (443 if (proxy or parts).scheme == "https" else 80)
        assert host
        connection: http.client.HTTPConnection
        if parts.scheme == "https":
            context = _tls(parts.netloc, options, self._settings.certs_dir)
            connection = http.client.HTTPSConnection(
                host, port, timeout=self._settings.connect_timeout, context=context
            )
            if proxy:
                connection.set_tunnel(parts.hostname or "", parts.port or 443, _proxy_login(proxy))
        else:
            connection = http.client.HTTPConnection(host, port, timeout=self._settings.connect_timeout)
        connection.connect()
        connection.sock.settimeout(self._settings.stall_timeout)
        return connection

    @contextmanager
    def _deadline(self, connection: http.client.HTTPConnection) -> Iterator[None]:
        """Cut the connection when the header as a whole takes too long, however it drips."""
        expired = threading.Event()

        def cut() -> None:
            expired.set()
            try:
                connection.sock.shutdown(socket.SHUT_RDWR)
            except (OSError, AttributeError):
                pass  # it ended just now

        timer = threading.Timer(self._settings.stall_timeout * _HEADER_TIMEOUT_FACTOR, cut)
        timer.daemon = True
        timer.start()
        try:
            yield
        except (OSError, http.client.HTTPException) as error:
            raise TimeoutError("no complete answer") if expired.is_set() else error from None
        finally:
            timer.cancel()


@contextmanager
def translated(url: str, keep: tuple[type[Exception], ...] = (), proxy: str = "") -> Iterator[None]:
    """What the network and http.client raise, as our errors; `keep` passes through, `proxy` is named if given."""
    where = urlsplit(url).netloc + (f" through proxy {proxy.rpartition('@')[2]}" if proxy else "")
    try:
        yield
    except keep:
        raise
    except TimeoutError as error:
        raise TimedOut(f"cannot read from {where}: no progress") from error
    except ssl.SSLCertVerificationError as error:
        raise Unavailable(
            f"cannot trust {where}: {error.verify_message}", hint="add its authority to the registry's settings"
        ) from error
    except socket.gaierror as error:
        raise Unavailable(f"cannot find the address of {where}: {error.strerror}") from error
    except (OSError, http.client.HTTPException) as error:
        raise Unavailable(f"cannot talk to {where}: {cause_of(error)}") from error


def cause_of(error: Exception) -> str:
    """What went wrong, without the number that Python puts before it."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return text[:1].lower() + text[1:]


def _proxy_login(proxy: SplitResult) -> dict[str, str]:
    if not proxy.username:
        return {}
    login = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}".encode()
    return {"Proxy-Authorization": "Basic " + base64.b64encode(login).decode()}


def _target(parts: SplitResult) -> str:
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


@cache
def _tls(netloc: str, options: RegistryHost, certs_dir: str) -> ssl.SSLContext:
    if options.insecure:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # reading all authorities of the host takes 30 ms
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
    context = ssl.create_default_context()
    own = os.path.join(certs_dir, netloc)
    if os.path.isdir(own):
        _load_certs_dir(context, own)
    if options.ca_file:
        context.load_verify_locations(options.ca_file)
    if options.client_cert:
        context.load_cert_chain(options.client_cert, options.client_key or None)
    return context


def _load_certs_dir(context: ssl.SSLContext, directory: str) -> None:
    """Docker's certs.d: *.crt are authorities, NAME.cert with NAME.key a client certificate."""
    for name in sorted(os.listdir(directory)):
        path = os.path.join(directory, name)
        if name.endswith(".crt"):
            context.load_verify_locations(path)
        elif name.endswith(".cert"):
            context.load_cert_chain(path, path.removesuffix(".cert") + ".key")
