"""Give up rights for good: what a worker does before it reads a hostile byte.

Nothing here can be undone by the process that called it. Everything needed later must be imported and opened
before: afterwards only descriptors already open and the new root exist.
"""

from __future__ import annotations

import os

from runtime.errors import KernelRefused
from runtime.kernel import capability, namespace
from runtime.kernel.process import prctl, set_oom_score

_PR_SET_NO_NEW_PRIVS = 38
_FIRST_TO_DIE = 100  # before containers: a worker's work can be done again


def confine(*, keep: tuple[str, ...], root_fd: int | None = None, network: bool = False) -> None:
    """No network (unless asked for), `root_fd` as root directory, no capabilities but `keep`, no way to gain others.

    Raises KernelRefused; the process must then end, since it may be half confined.
    """
    try:
        capability.last()  # read from /proc while there is one
        set_oom_score(_FIRST_TO_DIE)
        namespace.unshare(namespace.CLONE_NEWIPC | (0 if network else namespace.CLONE_NEWNET))
        if root_fd is not None:
            os.fchdir(root_fd)
            os.chroot(".")
        prctl(_PR_SET_NO_NEW_PRIVS, 1)
        _, permitted, _ = capability.get()
        wanted = capability.mask(keep) & permitted
        capability.drop_bounding(wanted)
        capability.set(wanted, wanted)
    except OSError as error:
        raise KernelRefused(f"cannot confine a worker: {error.strerror}", errno=error.errno or 0) from error
