"""Overlays of image layers as detached mounts, the owners of the layers shifted into a user namespace.

Before Linux 6.15 an overlay takes only lower mounts that are attached in the caller's own mount namespace
(clone_private_mount in fs/namespace.c), and only an attached mount can be cloned. There the clones are attached
in a copy of the namespace that lasts as long as that takes: the overlay keeps private clones of its layers.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from runtime.errors import Unsupported
from runtime.kernel import mount as m
from runtime.kernel import namespace as ns
from runtime.kernel.libc import version


def overlay(layers: tuple[str, ...], userns: int, upper: str = "", work: str = "", subpath: str = "") -> int:
    """A detached overlay, or a clone of what is at `subpath` in it; `userns` -1 leaves owners as they are.

    Layers are named by descriptor: short, and idmapped clones have no other name.
    """
    with ExitStack() as stack:
        if version() < (6, 15) and (userns >= 0 or subpath):
            stack.enter_context(_own_mounts())
        fds = [_opened(layer, userns, stack) for layer in layers]
        if version() < (6, 15) and userns >= 0:
            for fd in fds:
                _attach(fd)
        mount = _mount([f"/proc/self/fd/{fd}" for fd in fds], upper, work)
        return _part(mount, subpath) if subpath else mount


def idmapped(path: str, userns: int, *, recursive: bool = False, follow: bool = False) -> int:
    """A detached clone of `path` whose owners are those of a user namespace. Raises Unsupported."""
    fd = m.open_tree(m.AT_FDCWD, path, recursive=recursive, follow=follow)
    try:
        m.mount_setattr(fd, set=m.MOUNT_ATTR_IDMAP, userns=userns, recursive=recursive)
    except OSError as e:
        os.close(fd)
        raise Unsupported(
            f"cannot map the owners of {path} into a user namespace: {e.strerror}",
            hint="its file system does not support it; set `userns: host` for this service",
        ) from e
    return fd


def _opened(layer: str, userns: int, stack: ExitStack) -> int:
    fd = idmapped(layer, userns) if userns >= 0 else os.open(layer, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    stack.callback(os.close, fd)
    return fd


def _part(mount: int, subpath: str) -> int:
    inner = -1
    try:
        if version() < (6, 15):
            _attach(mount)
        inner = m.open_in_root(mount, subpath)
        return m.open_tree(inner, "")
    finally:
        for fd in (inner, mount):  # a detached mount ends with its descriptor
            if fd >= 0:
                os.close(fd)


@contextmanager
def _own_mounts() -> Iterator[None]:
    """A copy of the mount namespace that tells nobody of its changes and ends with the block."""
    home = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    try:
        ns.unshare(ns.CLONE_NEWNS)
        try:
            with _root() as root:
                m.mount_setattr(root, propagation=m.MS_PRIVATE, recursive=True)
            yield
        finally:
            ns.setns(home, ns.CLONE_NEWNS)
    finally:
        os.close(home)


def _attach(fd: int) -> None:
    """On top of the root directory, where nothing is looked up: paths go on below it."""
    with _root() as root:
        m.move_mount(fd, root)


@contextmanager
def _root() -> Iterator[int]:
    fd = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def _mount(lower: list[str], upper: str, work: str) -> int:
    writable = {"upperdir": upper, "workdir": work, "redirect_dir": "off", "metacopy": "off"} if upper else {}
    fd = m.fsopen("overlay")
    try:
        m.fsconfig(fd, "source", "overlay")
        _set_lower(fd, lower)
        for key, value in writable.items():
            m.fsconfig(fd, key, value)
        m.create(fd)
        return m.fsmount(fd)
    finally:
        os.close(fd)


def _set_lower(fd: int, lower: list[str]) -> None:
    """One option per layer from 6.8 on; before, all in one, which ends at a page of text."""
    if version() >= (6, 8):
        for path in lower:
            m.fsconfig(fd, "lowerdir+", path)
    else:
        m.fsconfig(fd, "lowerdir", ":".join(lower))
