"""Reading files that strangers name: regular ones only, of bounded size, each remembered.

The list of what was read, and of what was looked for in vain, is what a watcher needs to know when a
project may have changed. Nothing here writes or waits: pipes and devices are refused unopened.
"""

from __future__ import annotations

import hashlib
import os
import stat
from typing import Literal

from specs.document import MAX_BYTES, DocumentError
from specs.problem import Position
from specs.project import SourceFile

Kind = Literal["spec", "env", "config", "secret", "label"]


class FileError(Exception):
    """A file that cannot be read; the text completes "cannot read PATH: …"."""


class Files:
    """Reads files and remembers each, by path."""

    def __init__(self) -> None:
        self.seen: dict[str, SourceFile] = {}

    def read(self, path: str, kind: Kind) -> bytes:
        """The content; raises FileError, and remembers the path either way."""
        self.seen.setdefault(path, SourceFile(path=path, kind=kind))
        data = _read(path)
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        self.seen[path] = SourceFile(path=path, kind=kind, size=len(data), digest=digest)
        return data

    def exists(self, path: str, kind: Kind) -> bool:
        """Whether there is something at the path; a missing one is remembered as looked for."""
        if os.path.lexists(path):
            return True
        self.seen.setdefault(path, SourceFile(path=path, kind=kind))
        return False


def _read(path: str) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except ValueError:
        raise FileError("the name holds a NUL byte") from None
    except OSError as error:
        raise FileError(_reason(error)) from None
    try:
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            raise FileError("it is a directory")
        if not stat.S_ISREG(status.st_mode):
            raise FileError("it is not a regular file")
        if status.st_size > MAX_BYTES:
            raise FileError(f"it is larger than {MAX_BYTES // 1024} KiB")
        data = b""
        while len(data) <= MAX_BYTES and (piece := os.read(descriptor, MAX_BYTES + 1)):
            data += piece
    except OSError as error:
        raise FileError(_reason(error)) from None
    finally:
        os.close(descriptor)
    if len(data) > MAX_BYTES:
        raise FileError(f"it is larger than {MAX_BYTES // 1024} KiB")
    return data


def _reason(error: OSError) -> str:
    text = error.strerror or str(error)
    return text[:1].lower() + text[1:]


def decode(data: bytes, file: str) -> str:
    """Text of a document: UTF-8, or UTF-16 with a mark; DocumentError names the line that is neither."""
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        before = data[: error.start]
        at = Position(file, before.count(b"\n") + 1, len(before) - before.rfind(b"\n"))
        raise DocumentError(at, "cannot read the file: it is not UTF-8 text") from None
