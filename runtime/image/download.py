"""Fetch one blob into the store: resumed, bounded, hashed on the way, never believed before its digest fits.

The partial file keeps the digest's name, so that a broken connection, a killed worker or a restarted agent goes
on where it stopped, after hashing again what is there. Blocking; runs in the fetch worker.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import time
from collections.abc import Callable

from runtime.errors import (
    CorruptData,
    NotFound,
    TimedOut,
    TrueupError,
    Unavailable,
)
from runtime.image.blobs import Blobs, publish, refused
from runtime.image.http import Response
from runtime.image.registry import Registry, pull_scope
from runtime.image.session import Session
from runtime.image.settings import Settings

_PIECE = 1 << 20
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")
_WRONG_DIGEST_TRIES = 3

OnBytes = Callable[[int], None]


class Download:
    """One blob of `size` bytes with `digest`, into `blobs`."""

    def __init__(self, blobs: Blobs, settings: Settings, digest: str, size: int, on_bytes: OnBytes) -> None:
        self._blobs = blobs
        self._settings = settings
        self._digest, self._size = digest, size
        self._on_bytes = on_bytes
        self._path = blobs.partial(digest)
        self._fd = -1
        self._hash = hashlib.sha256()
        self._have = 0

    def run(self, registry: Registry, repository: str, sleep: Callable[[float], None] = time.sleep) -> None:
        """Make the blob exist, not settled yet.

        Raises CorruptData, NotFound, Unauthorized, Forbidden, TimedOut, Unavailable.
        """
        self._open()
        try:
            self._fetch(registry, repository, sleep)
            publish(self._blobs, self._path, self._digest)
        except CorruptData:
            os.unlink(self._path)  # wrong bytes are no start to go on from
            raise
        finally:
            os.close(self._fd)

    def _open(self) -> None:
        try:
            self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            while piece := os.read(self._fd, _PIECE):
                self._hash.update(piece)
                self._have += len(piece)
        except BlockingIOError as error:
            os.close(self._fd)
            raise Unavailable(f"cannot fetch {self._digest}: another process is fetching it") from error
        except OSError as error:
            raise refused(f"fetch {self._digest}", error) from error
        if self._have > self._size:
            self._restart()

    def _fetch(self, registry: Registry, repository: str, sleep: Callable[[float], None]) -> None:
        failures = wrong = 0
        endpoint = 0
        while True:
            session = registry.sessions[endpoint]
            had = self._have
            try:
                if self._have < self._size:
                    self._once(session, repository)
                self._check()
                return
            except CorruptData:
                wrong += 1
                self._restart()
                if wrong >= _WRONG_DIGEST_TRIES:
                    raise
            except TrueupError as error:
                failures = 0 if self._have > had else failures + 1
                last = endpoint == len(registry.sessions) - 1
                if last and not (isinstance(error, Unavailable) and failures < self._settings.attempts):
                    raise
                if not last:
                    endpoint += 1  # a mirror that fails is not asked again
                else:
                    sleep(session.pause(max(1, failures)))

    def _once(self, session: Session, repository: str) -> None:
        headers = {"Range": f"bytes={self._have}-"} if self._have else {}
        response = session.request(
            "GET",
            f"/v2/{repository}/blobs/{self._digest}",
            scope=pull_scope(repository),
            headers=headers,
            ok=(200, 206, 416),
            retry=False,
        )
        try:
            self._begin(response)
            self._copy(response)
        finally:
            if not response.raw.isclosed():
                session.drop(response)

    def _begin(self, response: Response) -> None:
        """Decide where the body belongs. A server that ignores or lies about the range means a new start."""
        if response.headers.get("content-encoding", "identity") != "identity":
            raise NotFound(f"cannot fetch {self._digest}: the registry sends it in another encoding")
        if response.status == 206:
            said = _RANGE.fullmatch(response.headers.get("content-range", ""))
            if said and int(said[1]) == self._have and said[3] in ("*", str(self._size)):
                return
        self._restart()
        if response.status != 200:
            raise Unavailable(f"cannot fetch {self._digest}: the registry answers another range than asked for")

    def _copy(self, response: Response) -> None:
        window_ends = time.monotonic() + self._settings.slow_window
        window_had = self._have
        while piece := response.read1(min(_PIECE, self._size - self._have + 1)):
            if self._have + len(piece) > self._size:
                raise CorruptData(f"cannot fetch {self._digest}: the registry sends more than {self._size} bytes")
            self._write(piece)
            if self._have == self._size and response.raw.length in (0, None):
                return
            now = time.monotonic()
            if now > window_ends:
                if self._have - window_had < self._settings.slow_bytes:
                    raise TimedOut(f"cannot fetch {self._digest}: hardly any progress")
                window_ends, window_had = now + self._settings.slow_window, self._have
        if self._have < self._size:
            raise Unavailable(f"cannot fetch {self._digest}: cut at {self._have} of {self._size} bytes")

    def _write(self, piece: bytes) -> None:
        self._hash.update(piece)
        try:
            written = os.write(self._fd, piece)
            while written < len(piece):
                written += os.write(self._fd, piece[written:])
        except OSError as error:
            self._restart()
            raise refused(f"fetch {self._digest}", error) from error
        self._have += len(piece)
        self._on_bytes(self._have)

    def _check(self) -> None:
        found = f"sha256:{self._hash.hexdigest()}"
        if found != self._digest:
            raise CorruptData(f"cannot use blob {self._digest}: the registry sent {found}")

    def _restart(self) -> None:
        os.ftruncate(self._fd, 0)
        os.lseek(self._fd, 0, os.SEEK_SET)
        self._hash = hashlib.sha256()
        self._have = 0
