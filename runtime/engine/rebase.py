"""Give a writable layer to another range of host ids: its container joins namespaces whose owner was replaced."""

from __future__ import annotations

import os
import stat

from runtime.engine.userns import RANGE
from runtime.kernel.trees import directories


def shift(directory: str, old: int, new: int) -> None:
    """Move the owners of everything at and below `directory` from the range at `old` to the one at `new`.

    What is of neither stays, so a shift that was cut short can be done again. Modes are kept; file capabilities
    are lost, as the kernel drops them with a change of owner.
    """
    _own(directory, None, old, new)
    for fd in directories(directory):
        for name in os.listdir(fd):
            _own(name, fd, old, new)


def _own(name: str, fd: int | None, old: int, new: int) -> None:
    had = os.stat(name, dir_fd=fd, follow_symlinks=False)
    uid, gid = _moved(had.st_uid, old, new), _moved(had.st_gid, old, new)
    if (uid, gid) != (had.st_uid, had.st_gid):
        os.chown(name, uid, gid, dir_fd=fd, follow_symlinks=False)
        if stat.S_ISREG(had.st_mode) and had.st_mode & (stat.S_ISUID | stat.S_ISGID):
            os.chmod(name, stat.S_IMODE(had.st_mode), dir_fd=fd)


def _moved(id: int, old: int, new: int) -> int:
    return id - old + new if old <= id < old + RANGE else id
