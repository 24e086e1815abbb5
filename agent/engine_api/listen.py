"""Listening sockets from addresses: `unix://`, `tcp://` with mutual TLS, `fd://` from systemd.

The API is root on the host, so a TCP listener without client certificates is refused unless the
settings say `insecure_tcp` in so many words; the unix socket's mode and group are the other gate.
"""

from __future__ import annotations

import contextlib
import grp
import os
import socket
import ssl
from dataclasses import dataclass

from agent.settings import ApiSettings
from runtime.errors import Conflict, InvalidInput, Unavailable

_FIRST_FD = 3  # man 3 sd_listen_fds
_PATH_LIMIT = 107  # bytes of sun_path (man 7 unix)
_BACKLOG = 1024


@dataclass(frozen=True, slots=True)
class Listener:
    """One bound socket with how it is spoken to. `path` is removed at the end when set."""

    address: str
    sock: socket.socket
    tls: ssl.SSLContext | None = None
    path: str = ""

    @property
    def tcp(self) -> bool:
        """Whether strangers' browsers can reach it, so that Host and Origin are to be checked."""
        return self.sock.family != socket.AF_UNIX


def open_listeners(addresses: tuple[str, ...], settings: ApiSettings) -> list[Listener]:
    """Bind every address. Raises InvalidInput, Conflict or Unavailable, with nothing left open."""
    opened: list[Listener] = []
    try:
        for address in addresses:
            opened += _open(address, settings)
    except BaseException:
        close_listeners(opened)
        raise
    return opened


def close_listeners(listeners: list[Listener]) -> None:
    """Close the sockets and remove the unix ones from the file system."""
    for listener in listeners:
        listener.sock.close()
        if listener.path:
            with contextlib.suppress(OSError):
                os.unlink(listener.path)


def _open(address: str, settings: ApiSettings) -> list[Listener]:
    scheme, separator, rest = address.partition("://")
    if separator and scheme == "unix":
        return [_unix(address, rest, settings)]
    if separator and scheme == "tcp":
        return [_tcp(address, rest, settings)]
    if separator and scheme == "fd":
        return _activated(address, rest, settings)
    raise InvalidInput(f"cannot listen on {address!r}: expected unix://PATH, tcp://ADDRESS:PORT or fd://")


def _unix(address: str, path: str, settings: ApiSettings) -> Listener:
    if not path.startswith("/") or len(os.fsencode(path)) > _PATH_LIMIT:
        raise InvalidInput(f"cannot listen on {address!r}: need an absolute path of at most {_PATH_LIMIT} bytes")
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o022)  # for the directory; the socket has its own
    try:
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
        _clear_stale(address, path)
        os.umask(0o777 & ~settings.socket_mode)
        sock.bind(path)
        _give_to_group(path, settings.socket_group)
        sock.listen(_BACKLOG)
    except OSError as e:
        sock.close()
        raise Unavailable(f"cannot listen on {address}: {e.strerror}") from e
    except BaseException:
        sock.close()
        raise
    finally:
        os.umask(before)
    return Listener(address, sock, path=path)


def _clear_stale(address: str, path: str) -> None:
    """Remove a socket that nobody listens on any more."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except FileNotFoundError:
            return
        except ConnectionRefusedError:
            os.unlink(path)
            return
    raise Conflict(f"cannot listen on {address}: another process does", hint="choose another with -H")


def _give_to_group(path: str, group: str) -> None:
    """Hand the socket to `group` where it exists; without it only the owner's own group remains."""
    try:
        os.chown(path, -1, grp.getgrnam(group).gr_gid)
    except (KeyError, PermissionError):
        pass  # no such group here, or not root: the mode alone then rules


def _tcp(address: str, rest: str, settings: ApiSettings) -> Listener:
    host, _, port = rest.rstrip("/").rpartition(":")
    host = host.strip("[]")
    if not port.isdigit() or int(port) > 65535:
        raise InvalidInput(f"cannot listen on {address!r}: need tcp://ADDRESS:PORT")
    tls = tls_context(address, settings)
    try:
        found = socket.getaddrinfo(host or None, int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, target = found[0]
        sock = socket.socket(family, kind, protocol)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(target)
        sock.listen(_BACKLOG)
    except OSError as e:
        raise Unavailable(f"cannot listen on {address}: {e.strerror}") from e
    return Listener(address, sock, tls=tls)


def tls_context(address: str, settings: ApiSettings) -> ssl.SSLContext | None:
    """Mutual TLS from the settings; None only where `insecure_tcp` allows it. Raises InvalidInput."""
    files = (settings.tls_ca, settings.tls_cert, settings.tls_key)
    if not all(files):
        if settings.insecure_tcp and not any(files):
            return None
        raise InvalidInput(
            f"cannot listen on {address}: whoever connects would be root on this host",
            hint="set api.tls_ca, api.tls_cert and api.tls_key, or api.insecure_tcp = true",
        )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    try:
        context.load_cert_chain(settings.tls_cert, settings.tls_key)
        context.load_verify_locations(settings.tls_ca)
    except (OSError, ssl.SSLError) as e:
        raise InvalidInput(f"cannot use the TLS files for {address}: {e}") from e
    return context


def _activated(address: str, name: str, settings: ApiSettings) -> list[Listener]:
    """Sockets systemd opened for exactly this process (man 3 sd_listen_fds); `name` selects one."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        raise InvalidInput(f"cannot listen on {address}: systemd handed this process no socket")
    count = int(os.environ.get("LISTEN_FDS", "0"))
    names = os.environ.get("LISTEN_FDNAMES", "").split(":")
    chosen = []
    for number in range(count):
        fd = _FIRST_FD + number
        if name in ("", "*", str(fd)) or names[number : number + 1] == [name]:
            sock = socket.socket(fileno=fd)
            os.set_inheritable(fd, False)
            tls = None if sock.family == socket.AF_UNIX else tls_context(address, settings)
            chosen.append(Listener(address, sock, tls=tls))
    if not chosen:
        raise InvalidInput(f"cannot listen on {address}: systemd handed over no such socket")
    return chosen
