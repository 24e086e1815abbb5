"""Who a process runs as: `user[:group]` looked up in the container's own passwd and group files.

The files belong to the image and are hostile: they are opened inside the root without following
a link out of it, must be regular files, are read up to 10 MiB, and a number that does not fit
32 bits is an error, never 0.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass

from runtime.errors import InvalidInput
from runtime.kernel.mount import open_in_root

LARGEST_FILE = 10 << 20
LARGEST_ID = (1 << 31) - 1  # what Docker and every libc's tools agree on


@dataclass(frozen=True, slots=True)
class User:
    """Ids a process gets; `home` is "/" for a user without an entry."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str
    name: str = ""


def lookup(spec: str, extra: tuple[str, ...], passwd: str, group: str) -> User:
    """Resolve Docker's `user[:group]` and additional groups against the two files' texts.

    Raises InvalidInput for a name that is in neither and for a number out of range.
    """
    name, colon, group_name = spec.partition(":")
    entry = _find(passwd, name or "0", 7)
    number = _number(name or "0")
    if entry is not None:
        uid, gid, home = _id(entry[2]), _id(entry[3]), entry[5] or "/"
    elif number is not None:
        uid, gid, home = number, 0, "/"
    else:
        raise InvalidInput(f"cannot find user {name!r} in the image's /etc/passwd")
    account = entry[0] if entry else name
    groups = [] if colon and group_name else _memberships(group, account, gid)
    if colon and group_name:
        gid = _group(group, group_name)
    for item in extra:
        groups.append(_group(group, item))
    # the main group too: a set-group-ID program could otherwise shed it (CVE-2022-36109)
    return User(uid, gid, tuple(dict.fromkeys((gid, *groups))), home, entry[0] if entry else "")


def read(root: int, path: str) -> str:
    """The text of a regular file inside `root`, "" when there is none. Raises InvalidInput for anything else."""
    try:
        fd = open_in_root(root, path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:
        return ""
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise InvalidInput(f"cannot read the image's {path}: not a regular file")
        data = b""
        while piece := os.read(fd, LARGEST_FILE + 1 - len(data)):
            data += piece
            if len(data) > LARGEST_FILE:
                raise InvalidInput(f"cannot read the image's {path}: larger than {LARGEST_FILE >> 20} MiB")
        return data.decode(errors="replace")
    finally:
        os.close(fd)


def resolve(root: int, spec: str, extra: tuple[str, ...]) -> User:
    """`lookup` in the files below the directory descriptor `root`."""
    return lookup(spec, extra, read(root, "/etc/passwd"), read(root, "/etc/group"))


def _find(text: str, key: str, fields: int) -> list[str] | None:
    """The first entry by name, else by number."""
    by_number = None
    for line in text.splitlines():
        entry = line.strip().split(":")
        if len(entry) < fields or line.startswith("#"):
            continue
        if entry[0] == key:
            return entry
        if by_number is None and entry[2] == key and key.isdigit():
            by_number = entry
    return by_number


def _memberships(group: str, account: str, primary: int) -> list[int]:
    found = []
    for line in group.splitlines():
        entry = line.strip().split(":")
        if len(entry) >= 4 and account and account in entry[3].split(",") and _id(entry[2]) != primary:
            found.append(_id(entry[2]))
    return found


def _group(text: str, name: str) -> int:
    entry = _find(text, name, 3)
    if entry is not None:
        return _id(entry[2])
    number = _number(name)
    if number is None:
        raise InvalidInput(f"cannot find group {name!r} in the image's /etc/group")
    return number


def _number(text: str) -> int | None:
    return _id(text) if text.lstrip("-").isascii() and text.lstrip("-").isdigit() else None


def _id(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 10 or int(text) > LARGEST_ID:
        raise InvalidInput(f"cannot use {text!r} as a user or group id: not within 0…{LARGEST_ID}")
    return int(text)
