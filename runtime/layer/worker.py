"""The process that unpacks or packs one layer: it sees only the layer's directory, the blob, and no network.

Before the first byte of the image is read it has entered new network and IPC namespaces, made the layer's
directory its root, given up every capability it does not need to make files, and bounded its memory.
"""

from __future__ import annotations

import errno
import gc
import os
import resource
from collections.abc import Mapping
from typing import Any

from runtime.errors import CorruptData, TrueupError, Unavailable
from runtime.kernel import worker
from runtime.kernel.confine import confine
from runtime.layer.limits import Limits
from runtime.layer.overlay import Overlay
from runtime.layer.pack import Packer
from runtime.layer.packed_stream import PackedStream
from runtime.layer.stream import LayerStream
from runtime.layer.unpack import Unpacker
from runtime.tar.reader import Entry, TarReader, show

_MEMORY = 1 << 30
_REPORT_EVERY = 1 << 20  # compressed bytes between two reports
_KEPT = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "MKNOD", "SETFCAP", "SYS_ADMIN")  # last: trusted.* xattrs


def main() -> None:
    """Entry of the process; a request names descriptors by number: `{do: "unpack", blob, root, limits, name}`
    or `{do: "pack", blob, root, lowers, base, copy}` with `blob`, and the pipe `copy` unless None, to be written."""
    worker.serve(_handle)


def _handle(request: dict[str, Any], report: worker.Report) -> dict[str, Any]:
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    if request["do"] == "pack":
        confine(keep=_KEPT, root_fd=request["root"])
        return pack(request["blob"], request["root"], request["lowers"], request["base"], request["copy"])
    limits = Limits(**request["limits"])
    resource.setrlimit(resource.RLIMIT_FSIZE, (limits.size, limits.size))
    confine(keep=_KEPT, root_fd=request["root"])
    os.umask(0)
    gc.disable()  # nothing here makes cycles, and looking for them costs a tenth of the time
    return unpack(request["blob"], request["root"], limits, request["name"], report)


def unpack(blob_fd: int, root_fd: int, limits: Limits, name: str, report: worker.Report) -> dict[str, Any]:
    """Unpack an open blob into `root_fd`; returns its diff digest, bytes and entries. `name` is for errors."""
    stream = LayerStream(blob_fd, limit=limits.size)
    target = Unpacker(root_fd, limits)
    try:
        _apply_all(stream, target, name, report)
        return {"digest": stream.finish(), "size": target.size, "entries": target.entries}
    except CorruptData as error:
        raise CorruptData(f"cannot unpack {name}: {error.message}", hint=error.hint) from error
    finally:
        target.close()
        stream.close()


def pack(
    blob_fd: int, upper_fd: int, lowers: list[int] | None, base: int, copy_fd: int | None = None
) -> dict[str, Any]:
    """Write the layer of an upper directory as gzip, and plain to `copy_fd`; returns its digest, size and diff id."""
    out = PackedStream(blob_fd, copy_fd)
    try:
        for piece in Packer(Overlay(upper_fd, lowers), base).pieces():
            out.write(piece)
        return out.finish()
    except OSError as error:
        raise Unavailable(f"cannot pack a layer: {error.strerror}") from error
    finally:
        out.close()


def _apply_all(stream: LayerStream, target: Unpacker, name: str, report: worker.Report) -> None:
    reader = TarReader(stream)
    entry: Entry | None = None
    reported = 0
    try:
        for entry in reader:
            target.apply(entry, reader)
            if stream.consumed - reported >= _REPORT_EVERY:
                reported = stream.consumed
                report({"current": reported})
        entry = None
        target.finish()
    except OSError as error:
        raise _translate(error, name, entry) from error
    except TrueupError as error:
        if entry is None or error.message.startswith("cannot read"):
            raise
        raise CorruptData(f"entry {show(entry.name)}: {error.message}") from error


def _translate(error: OSError, name: str, entry: Entry | None) -> TrueupError:
    where = f"entry {show(entry.name)}" if entry else "its last step"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Unavailable(
            f"cannot unpack {name}: no space left at {where}", hint="free some space: trueup system prune"
        )
    if error.errno in (errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EROFS):
        return Unavailable(f"cannot unpack {name}: {error.strerror} at {where}")
    return CorruptData(f"{where}: {error.strerror}")


def limits_as_request(limits: Limits) -> Mapping[str, int]:
    """`limits` as plain values for the request."""
    return {field: getattr(limits, field) for field in limits.__slots__}
