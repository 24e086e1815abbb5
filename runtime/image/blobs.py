"""Content-addressed blobs on disk, safe against a power cut at any moment.

A blob is written to an ingest file, measured and hashed on the way, and renamed to its digest. It can be read at
once; until it is `settle`d (fsynced, its directory too) a marker file says so, made before the rename, and after a
power cut `recover` hashes again whatever is marked. Nothing may name a blob before it is settled: `settle` runs
while layers are unpacked, so nobody waits for the disk twice. Several processes may ingest at once.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import uuid
from types import TracebackType

from runtime.errors import CorruptData, NotFound, TrueupError, Unavailable
from runtime.image.reference import is_digest

_PIECE = 1 << 20
MARK = "unsettled-"
PARTIAL = "partial-"
INGEST = "ingest-"
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class Blobs:
    """`blobs/sha256/` and `ingest/` below the root of an OCI image layout."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.directory = os.path.join(root, "blobs", "sha256")
        self.ingests = os.path.join(root, "ingest")

    def make(self) -> None:
        """Make the directories where missing."""
        os.makedirs(self.directory, mode=0o755, exist_ok=True)
        os.makedirs(self.ingests, mode=0o700, exist_ok=True)

    def recover(self) -> None:
        """Remove what a power cut spoilt among the blobs not settled, settle the rest."""
        for digest in self._unsettled():
            self.is_whole(digest)
        self.settle()
        for digest in self._unsettled():
            os.unlink(self.marker(digest))

    def settle(self, *digests: str) -> None:
        """Wait until blobs (all that are marked, when none is given) are on the disk. Raises Unavailable."""
        found = [digest for digest in digests or self._unsettled() if self.has(digest)]
        try:
            for digest in found:
                self._settle_one(digest)
            if found:
                sync_directory(self.directory)
            for digest in found:
                unlink_quietly(self.marker(digest))
        except FileNotFoundError:
            return  # collected meanwhile, so nothing names it
        except OSError as error:
            raise refused(f"store blobs in {self.root}", error) from error

    def _settle_one(self, digest: str) -> None:
        try:
            _sync(self.path(digest), os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self.remove(digest)  # a second fsync would not say again that bytes were lost
            raise

    def mark(self, digest: str) -> None:
        """Note that a blob about to appear is not on the disk yet."""
        os.close(os.open(self.marker(digest), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))

    def _unsettled(self) -> list[str]:
        names = (name for name in os.listdir(self.ingests) if name.startswith(MARK))
        return [f"sha256:{name.removeprefix(MARK)}" for name in names]

    def marker(self, digest: str) -> str:
        """The file that says a blob is not settled."""
        return os.path.join(self.ingests, MARK + digest.removeprefix("sha256:"))

    def path(self, digest: str) -> str:
        """Where a blob is or would be."""
        if not is_digest(digest):
            raise CorruptData(f"cannot use {digest[:80]!r} as a blob: no sha256 digest")
        return os.path.join(self.directory, digest[7:])

    def has(self, digest: str) -> bool:
        """Whether the blob is there, whole."""
        return os.path.exists(self.path(digest))

    def size(self, digest: str) -> int:
        """Bytes of a blob. Raises NotFound."""
        try:
            return os.stat(self.path(digest)).st_size
        except FileNotFoundError:
            raise NotFound(f"cannot find blob {digest} in the store") from None

    def read(self, digest: str, limit: int) -> bytes:
        """A small blob, hashed again on the way. Raises NotFound, CorruptData."""
        try:
            with open(self.path(digest), "rb") as file:
                data = file.read(limit + 1)
        except FileNotFoundError:
            raise NotFound(f"cannot find blob {digest} in the store") from None
        if len(data) > limit:
            raise CorruptData(f"cannot use blob {digest}: larger than {limit} bytes")
        if hash_of(data) != digest:
            raise CorruptData(f"cannot use blob {digest}: its file is damaged", hint="pull or load the image again")
        return data

    def put(self, data: bytes) -> str:
        """Store a small blob, again if its file is damaged; its digest."""
        digest = hash_of(data)
        if not self.is_whole(digest):
            with self.ingest() as ingest:
                ingest.write(data)
                ingest.commit()
        return digest

    def is_whole(self, digest: str) -> bool:
        """Whether the blob is there and its content still has its digest; a damaged file is removed."""
        found = hashlib.sha256()
        try:
            with open(self.path(digest), "rb", buffering=0) as file:
                while data := file.read(_PIECE):
                    found.update(data)
        except FileNotFoundError:
            return False
        if f"sha256:{found.hexdigest()}" == digest:
            return True
        self.remove(digest)
        return False

    def ingest(self) -> Ingest:
        """A new blob to be written; use as a context manager."""
        return Ingest(self, os.path.join(self.ingests, INGEST + uuid.uuid4().hex))

    def adopt(self, path: str, digest: str) -> None:
        """Make a finished file in the ingest directory a blob. `digest` is what its writer computed."""
        publish(self, path, digest)

    def partial(self, digest: str) -> str:
        """Where a blob that is being fetched is kept until it is whole."""
        return os.path.join(self.ingests, PARTIAL + digest.removeprefix("sha256:"))

    def remove(self, digest: str) -> int:
        """Remove a blob; bytes given back, 0 when it was not there."""
        try:
            size = self.size(digest)
            os.unlink(self.path(digest))
        except (NotFound, FileNotFoundError):
            return 0
        return size


class Ingest:
    """One blob on its way in. Leaving the block without `commit` removes the file."""

    def __init__(self, blobs: Blobs, path: str) -> None:
        self._blobs = blobs
        self._path = path
        self._digest = hashlib.sha256()
        self.size = 0
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
            fcntl.flock(self._fd, fcntl.LOCK_EX)  # so that `sweep` knows when we died
        except OSError as error:
            raise refused(f"write to {blobs.root}", error) from error

    def __enter__(self) -> Ingest:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            os.unlink(self._path)

    def write(self, data: bytes | memoryview) -> None:
        """Add bytes. Raises Unavailable on a full disk."""
        self._digest.update(data)
        self.size += len(data)
        try:
            written = os.write(self._fd, data)
            while written < len(data):
                written += os.write(self._fd, data[written:])
        except OSError as error:
            raise refused(f"write to {self._blobs.root}", error) from error

    @property
    def digest(self) -> str:
        """The digest of what was written so far."""
        return f"sha256:{self._digest.hexdigest()}"

    def commit(self, expected: str = "") -> str:
        """Make it a blob, not settled yet; its digest. Raises CorruptData when it is not `expected`."""
        digest = self.digest
        if expected and digest != expected:
            raise CorruptData(f"cannot store blob {expected}: its content is {digest}")
        publish(self._blobs, self._path, digest)
        os.close(self._fd)
        self._fd = -1
        return digest


def publish(blobs: Blobs, path: str, digest: str) -> None:
    """Give the file `path` its final name, marked as not settled."""
    try:
        blobs.mark(digest)
        os.rename(path, blobs.path(digest))
    except OSError as error:
        raise refused(f"store blob {digest}", error) from error


def sync_directory(path: str) -> None:
    """fsync a directory, so that its names survive a power cut."""
    _sync(path, _DIRECTORY)


def _sync(path: str, flags: int) -> None:
    fd = os.open(path, flags)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def refused(what: str, error: OSError) -> TrueupError:
    """The store's error for a failed write."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return Unavailable(f"cannot {what}: {error.strerror}", hint="free some space: trueup system prune" if full else "")


def hash_of(data: bytes) -> str:
    """The digest of bytes, "sha256:…"."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def unlink_quietly(path: str) -> None:
    """Remove a file that may be gone."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
