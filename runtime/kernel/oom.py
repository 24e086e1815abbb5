"""Kills for want of memory, noticed as they happen: an eventfd per group on cgroup version 1, one inotify on version 2.

kernel: Documentation/admin-guide/cgroup-v1/memory.rst, section 10; cgroup-v2.rst, memory.events; man 7 inotify.
"""

from __future__ import annotations

import os

from runtime.kernel import inotify

OVERFLOW = -1
"""In place of a number: more changed than the kernel remembers."""


def notifier(directory: str) -> int:
    """A descriptor that becomes readable when the version-1 memory group at `directory` runs out of memory."""
    event = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    try:
        control = os.open(f"{directory}/memory.oom_control", os.O_RDONLY | os.O_CLOEXEC)
        try:
            register = os.open(f"{directory}/cgroup.event_control", os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.write(register, f"{event} {control}".encode())
            finally:
                os.close(register)
        finally:
            os.close(control)
    except OSError:
        os.close(event)
        raise
    return event


def watch(descriptor: int, path: str) -> int:
    """Watch a kernel file for changes; the number that `changed` will give.

    It does not end with a removed group, but keeps that in memory: `inotify.remove` it.
    """
    return inotify.add(descriptor, path, inotify.MODIFY)


def changed(descriptor: int) -> set[int]:
    """Numbers of the watched files that changed since the last call; one read is enough, it is level-triggered."""
    return {event.watch for event in inotify.read(descriptor) if not event.mask & inotify.IGNORED}
