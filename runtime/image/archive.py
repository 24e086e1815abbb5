"""Read image archives: OCI layouts and `docker save`, as a directory, tar, tar.gz or tar.zst; and plain rootfs.

An archive is read once from front to back. Every regular member becomes an ingested blob, whatever its name
says; only afterwards the index or manifest.json tells which of them belong together, and names only choose
among what was read: no path of the archive ever touches the filesystem. Runs in a worker.
"""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any, cast

import zstandard
from isal import igzip

from runtime.errors import CorruptData, InvalidInput, Unavailable
from runtime.image import manifest as m
from runtime.image.blobs import Blobs
from runtime.image.docker_archive import read_docker
from runtime.image.oci_archive import read_oci

OnLayer = Callable[[str, int], None]
_CHUNK = 1 << 20
_MAX_MEMBERS = 20_000


def load(
    blobs: Blobs, path: str, stream: IO[bytes] | None = None, on_layer: OnLayer | None = None
) -> list[tuple[str, m.Descriptor]]:
    """Ingest an archive; (name or "", target) of every image in it. Raises CorruptData, InvalidInput.

    `stream` has the archive's bytes when it is no file; `path` is then for errors. `on_layer` hears digest and
    size of what looks like a layer, as soon as it is stored.
    """
    if stream is None and os.path.isdir(path):
        members = _from_directory(blobs, path)
    else:
        members = _from_tar(blobs, path, stream, on_layer)
    if "index.json" in members and "oci-layout" in members:
        images = read_oci(blobs, members, path)
    elif "manifest.json" in members:
        images = read_docker(blobs, members, path)
    else:
        raise InvalidInput(f"cannot load {path}: neither an OCI layout nor the output of docker save")
    if not images:
        raise InvalidInput(f"cannot load {path}: there is no image in it")
    return images


@contextmanager
def open_archive(path: str, stream: IO[bytes] | None = None) -> Iterator[IO[bytes]]:
    """The decompressed bytes of a file or stream, whatever it is compressed with."""
    with open(path, "rb") if stream is None else stream as file:
        raw = _Peeked(file)
        if raw.head[:2] == b"\x1f\x8b":
            with igzip.IGzipFile(fileobj=raw) as unzipped:  # type: ignore[no-untyped-call]
                yield cast("IO[bytes]", unzipped)
        elif raw.head == b"\x28\xb5\x2f\xfd":
            with zstandard.ZstdDecompressor().stream_reader(cast("IO[bytes]", raw), read_across_frames=True) as plain:
                yield cast("IO[bytes]", plain)
        else:
            yield cast("IO[bytes]", raw)


class _Peeked(io.RawIOBase):
    """A stream whose first four bytes have been looked at."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._rest = self.head = file.read(4)

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes, b"" at the end."""
        if not self._rest:
            return self._file.read(size)
        given, self._rest = self._rest[:size], self._rest[size:]
        return given

    def readinto(self, buffer: Any) -> int:
        """As `read`, into a buffer."""
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def import_rootfs(blobs: Blobs, path: str, document: dict[str, Any], stream: IO[bytes] | None = None) -> m.Descriptor:
    """A plain root filesystem archive as a one-layer image; `document` is its configuration without rootfs.

    The archive is stored uncompressed as the layer. Raises CorruptData, InvalidInput.
    """
    with _reading(path), open_archive(path, stream) as unzipped, blobs.ingest() as ingest:
        while data := unzipped.read(_CHUNK):
            ingest.write(data)
        if not ingest.size:
            raise InvalidInput(f"cannot load {path}: it is empty")
        size, diff_id = ingest.size, ingest.commit()
    layer = m.Descriptor(media_type=m.OCI_LAYER, digest=diff_id, size=size)
    return store_image(blobs, document | {"rootfs": {"type": "layers", "diff_ids": [diff_id]}}, [layer])


def store_image(blobs: Blobs, document: dict[str, Any], layers: list[m.Descriptor]) -> m.Descriptor:
    """Store a configuration and a manifest over layers that are here; the manifest's descriptor."""
    return m.put_manifest(blobs.put, m.dump(document), layers)


def _from_tar(blobs: Blobs, path: str, stream: IO[bytes] | None, on_layer: OnLayer | None) -> dict[str, str]:
    members: dict[str, str] = {}
    links: dict[str, str] = {}
    with (
        _reading(path),
        open_archive(path, stream) as unzipped,
        tarfile.open(fileobj=unzipped, mode="r|", bufsize=_CHUNK) as archive,
    ):
        for count, member in enumerate(archive):
            if count > _MAX_MEMBERS:
                raise CorruptData(f"cannot load {path}: more than {_MAX_MEMBERS} members")
            name = os.path.normpath(member.name)
            if member.isreg() and (file := archive.extractfile(member)):
                members[name] = _ingest(blobs, file, on_layer)
            elif member.issym():  # docker save before 1.10 linked equal layers
                links[name] = os.path.normpath(os.path.join(os.path.dirname(name), member.linkname))
            elif member.islnk():
                links[name] = os.path.normpath(member.linkname)
    for name, target in links.items():
        if target in members:
            members[name] = members[target]
    return members


def _from_directory(blobs: Blobs, path: str) -> dict[str, str]:
    members: dict[str, str] = {}
    with _reading(path):
        for folder, _, names in os.walk(path):
            for name in names:
                full = os.path.join(folder, name)
                fd = os.open(full, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
                with os.fdopen(fd, "rb") as file:
                    members[os.path.relpath(full, path)] = _ingest(blobs, file)
    return members


def _ingest(blobs: Blobs, file: IO[bytes], on_layer: OnLayer | None = None) -> str:
    data = file.read(_CHUNK)
    if len(data) < _CHUNK:
        return blobs.put(data)
    is_layer = data.startswith((b"\x1f\x8b", b"\x28\xb5\x2f\xfd")) or data[257:262] == b"ustar"
    with blobs.ingest() as ingest:
        while data:
            ingest.write(data)
            data = file.read(_CHUNK)
        size, digest = ingest.size, ingest.commit()
    if is_layer and on_layer:
        on_layer(digest, size)
    return digest


@contextmanager
def _reading(path: str) -> Iterator[None]:
    """What the libraries raise about a damaged archive, as our errors."""
    try:
        yield
    except (tarfile.TarError, EOFError, igzip.BadGzipFile, zstandard.ZstdError, ValueError) as error:
        raise CorruptData(f"cannot load {path}: the archive is damaged: {error}") from error
    except FileNotFoundError as error:
        raise InvalidInput(f"cannot load {path}: no such file") from error
    except OSError as error:
        raise Unavailable(f"cannot load {path}: {error.strerror or error}") from error
