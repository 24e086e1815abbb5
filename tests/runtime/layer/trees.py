"""Directory trees with everything a layer can hold, and their description for comparing."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

CAPABILITY = bytes.fromhex("0100000200040000000000000000000000000000")  # cap_net_bind_service=ep


def make_tree(root: Path, *, sparse: bool = True, long: bool = True) -> None:
    """Files, links, nodes, long names, odd modes, owners, times and attributes."""
    root.mkdir()
    (root / "plain").write_text("plain")
    os.chmod(root / "plain", 0o640)
    (root / "empty").touch()
    (root / "owned").write_text("x")
    os.chown(root / "owned", 1000, 2000)
    (root / "suid").write_text("x")
    os.chown(root / "suid", 5, 6)
    os.chmod(root / "suid", 0o6755)
    (root / "d").mkdir(mode=0o700)
    (root / "d/inside").write_text("y" * 3000)
    (root / "sticky").mkdir()
    os.chmod(root / "sticky", 0o1777)
    (root / "setgid").mkdir()
    os.chown(root / "setgid", 0, 50)
    os.chmod(root / "setgid", 0o2775)
    (root / "link").symlink_to("/etc/passwd")
    (root / "dangling").symlink_to("../../nowhere")
    (root / "first").write_text("shared")
    os.link(root / "first", root / "second")
    os.mkfifo(root / "fifo")
    os.mknod(root / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    if long:
        (root / ("n" * 150)).write_text("long")
    (root / "ünï").write_text("unicode")
    deep = root / "/".join(["deep"] * 20)
    deep.mkdir(parents=True)
    (deep / "file").write_text("deep")
    if sparse:
        with open(root / "sparse", "wb") as file:
            file.write(b"head")
            file.seek(1 << 20)
            file.write(b"tail")
            file.truncate((1 << 20) + 70_000)
    for number, path in enumerate(sorted(root.rglob("*"))):
        moment = 1_600_000_000_000_000_000 + number * 1_000_000_007
        os.utime(path, ns=(moment, moment), follow_symlinks=False)
    os.utime(root, ns=(10**18, 10**18))


def add_attributes(root: Path) -> None:
    """What only a filesystem with extended attributes and root can hold."""
    os.setxattr(root / "plain", "user.note", b"binary\x00\n=value")
    os.setxattr(root / "suid", "security.capability", CAPABILITY)


def listing(root: Path, *, nanoseconds: bool = True) -> list[str]:
    """One line per path: all that should survive."""
    lines = []
    inodes: dict[int, str] = {}
    for path in sorted([root, *root.rglob("*")]):
        found = path.lstat()
        name = str(path.relative_to(root))
        first = inodes.setdefault(found.st_ino, name)
        moment = found.st_mtime_ns if nanoseconds else found.st_mtime_ns // 10**9
        content = ""
        if stat.S_ISREG(found.st_mode):
            content = f"{found.st_size} {hashlib.sha256(path.read_bytes()).hexdigest()[:16]}"
        elif stat.S_ISLNK(found.st_mode):
            content = os.readlink(path)
        attributes = {name: os.getxattr(path, name, follow_symlinks=False) for name in _xattrs(path)}
        lines.append(
            f"{name} {found.st_mode:o} {found.st_uid}:{found.st_gid} {moment} {found.st_rdev} {content} "
            f"{'' if first == name else first} {attributes or ''}"
        )
    return lines


def _xattrs(path: Path) -> list[str]:
    return [name for name in os.listxattr(path, follow_symlinks=False) if not name.startswith("trusted.overlay.")]
