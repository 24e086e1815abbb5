"""Where a mount goes inside a root the image controls: found or made by descriptor, each path resolved once."""

from __future__ import annotations

import os
import stat

from runtime.errors import InvalidInput
from runtime.kernel import mount as m


def existing(root: int, path: str) -> int | None:
    """A descriptor of what `path` is inside the root without following links; None when it is not there."""
    try:
        return m.open_in_root(root, path.lstrip("/") or ".", follow=False)
    except OSError:
        return None


def target_of(root: int, path: str, *, directory: bool, follow: bool = True, doing: str = "") -> int:
    """A descriptor of the mount point `path` inside the root, made (with its parents) where it is missing.

    `doing` is what is said that cannot be done to the path, in place of a mount on it.

    Raises InvalidInput when the image has something of the wrong kind, or a link where none may be, there.
    """
    try:
        fd = m.open_in_root(root, path.lstrip("/") or ".", follow=follow)
    except FileNotFoundError:
        fd = _make(root, path, directory=directory, follow=follow)
    except OSError as e:
        raise InvalidInput(f"cannot {doing or 'mount on'} {path}: {e.strerror} in the image") from e
    if stat.S_ISDIR(os.fstat(fd).st_mode) != directory:
        os.close(fd)
        kinds = ("a directory", "not a directory") if directory else ("a file", "a directory")
        raise InvalidInput(f"cannot {doing or f'mount {kinds[0]} on'} {path}: it is {kinds[1]} in the image")
    return fd


def _make(root: int, path: str, *, directory: bool, follow: bool) -> int:
    """Make `path` one component at a time, each resolved inside the root by descriptor.

    A link that leads nowhere is completed like the kernel would: its target is made, inside the root.
    """
    parts = [p for p in path.split("/") if p not in ("", ".")]
    done = parts[:-1] if ".." not in parts and _is_directory(root, "/".join(parts[:-1])) else []
    parts = parts[len(done) :]
    links = 0
    while parts:
        part = parts.pop(0)
        parent = m.open_in_root(root, "/".join(done) or ".", follow=follow)
        try:
            found = _lstat(part, parent)
            if found is not None and stat.S_ISLNK(found.st_mode) and follow:
                links += 1
                if links > 40:
                    raise InvalidInput(f"cannot mount on {path}: too many links in the image")
                link = os.readlink(part, dir_fd=parent)
                done = [] if link.startswith("/") else done
                parts = [p for p in link.split("/") if p not in ("", ".")] + parts
                continue
            if part == "..":
                done = done[:-1]
                continue
            if found is None:
                if directory or parts:
                    os.mkdir(part, 0o755, dir_fd=parent)
                else:
                    os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o644, dir_fd=parent))
            done.append(part)
        finally:
            os.close(parent)
    return m.open_in_root(root, "/".join(done) or ".", follow=follow)


def _is_directory(root: int, path: str) -> bool:
    """Whether a path is a directory with no link on the way, so that only its last component is missing."""
    found = existing(root, path)
    if found is None:
        return False
    try:
        return stat.S_ISDIR(os.fstat(found).st_mode)
    finally:
        os.close(found)


def _lstat(name: str, parent: int) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return None
