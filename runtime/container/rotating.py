"""A file that is appended to up to a bound and then set aside: what a log on disk is made of."""

from __future__ import annotations

import os

from runtime.container.losses import Losses


class RotatingFile:
    """Appends to `path`; before it would pass `max_bytes` it becomes `path.1`, of which `max_files` - 1 are kept."""

    def __init__(self, path: str, max_bytes: int, max_files: int, losses: Losses | None = None) -> None:
        """`losses` is told of what the disk refuses."""
        self._path, self._max_bytes, self._max_files = path, max_bytes, max(max_files, 1)
        self._losses = losses
        self._fd = -1
        self._inode = self._size = 0

    def position(self) -> tuple[int, int]:
        """(inode, length) of the newest file, which is made if there is none; zeros if it cannot be."""
        try:
            if self._fd < 0:
                self._open()
        except OSError:
            return 0, 0
        return self._inode, self._size

    def room(self) -> int:
        """Bytes that the newest file may still get; 0 when there is no bound."""
        return max(self._max_bytes - self._size, 1) if self._max_bytes else 0

    def rewind(self, inode: int, length: int) -> None:
        """Cut off what was added after `position` was that."""
        if not inode or self.position() == (0, 0):
            return
        length = length if self._inode == inode else 0
        if self._size > length:
            os.ftruncate(self._fd, length)
            self._size = length

    def append(self, data: bytes | memoryview) -> None:
        """Add whole records; what the disk refuses is lost, silently for the container."""
        view = memoryview(data)
        try:
            if self._fd < 0:
                self._open()
            if self._max_bytes and self._size and self._size + len(data) > self._max_bytes:
                self._rotate()
            while view:
                written = os.write(self._fd, view)
                self._size += written
                view = view[written:]
        except OSError as e:  # disk full, directory gone: try afresh with the next piece
            self._let_go()
            if self._losses:
                self._losses.failed(len(view), e)
        else:
            if self._losses:
                self._losses.kept()

    def close(self) -> None:
        """Let go of the file."""
        self._let_go()
        if self._losses:
            self._losses.over()

    def _let_go(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _open(self) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        self._fd = os.open(self._path, flags, 0o640)
        found = os.fstat(self._fd)
        self._inode, self._size = found.st_ino, found.st_size

    def _rotate(self) -> None:
        before, self._fd = self._fd, -1
        try:
            for number in range(self._max_files - 1, 0, -1):
                newer = f"{self._path}.{number - 1}" if number > 1 else self._path
                try:
                    os.rename(newer, f"{self._path}.{number}")
                except FileNotFoundError:
                    continue
            if self._max_files == 1:
                os.unlink(self._path)
            self._open()
        finally:
            os.close(before)  # not earlier, or the new file might get the inode that `rewind` tells them apart by
