"""A forward stream of bytes in pieces as they come, read in sizes as a tar wants them: a `reader.Source`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator

from runtime.errors import CorruptData
from runtime.tar.file import write_all


class Stream(ABC):
    """What is common to all sources; each says in `_next` where its pieces come from. `name` is for errors."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._piece = memoryview(b"")
        self._at = 0

    @abstractmethod
    def _next(self) -> memoryview | None:
        """The next piece, not empty, valid until the next call; None at the end, and again after it."""

    def read(self, size: int) -> bytes:
        """Exactly `size` bytes, or fewer at the end of the stream."""
        at, end = self._at, self._at + size
        if end <= len(self._piece):
            self._at = end
            return bytes(self._piece[at:end])
        parts = []
        while size and self._fill():
            part = self._piece[self._at : self._at + size]
            parts.append(bytes(part))
            self._at += len(part)
            size -= len(part)
        return b"".join(parts)

    def take(self, size: int) -> memoryview | None:
        """Exactly `size` bytes of the piece at hand, valid until the next call; None when they go beyond it."""
        at, end = self._at, self._at + size
        if end > len(self._piece):
            return None
        self._at = end
        return self._piece[at:end]

    def pieces(self, size: int) -> Iterator[memoryview]:
        """Exactly `size` bytes, as views valid until the next; raises CorruptData when cut short."""
        while size:
            if not self._fill():
                raise self._cut()
            part = self._piece[self._at : self._at + size]
            self._at += len(part)
            size -= len(part)
            yield part

    def pour(self, size: int, fd: int) -> None:
        """Write exactly `size` bytes at the position of `fd`; raises CorruptData when cut short, OSError."""
        for piece in self.pieces(size):
            write_all(fd, piece)

    def skip(self, size: int) -> None:
        """Pass over `size` bytes; raises CorruptData when there are fewer."""
        if self._at + size <= len(self._piece):
            self._at += size
            return
        for _ in self.pieces(size):
            pass

    def drain(self) -> None:
        """Read what is left to the end."""
        while self._fill():
            self._at = len(self._piece)

    def _cut(self) -> CorruptData:
        return CorruptData(f"cannot read {self._name}: it is cut inside a file")

    def _fill(self) -> bool:
        """Make `_piece[_at:]` non-empty, or return False at the end."""
        if self._at == len(self._piece):
            self._piece, self._at = self._next() or memoryview(b""), 0
        return bool(self._piece)
