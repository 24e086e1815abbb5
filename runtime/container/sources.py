"""Mounts that only the host's root can make, prepared detached: the root overlay, /dev, bind mounts.

The monitor makes them once the container's user namespace exists, while the container's first process
makes its own; each is one descriptor handed over, attached nowhere on the host.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass

from runtime.container import defaults
from runtime.container.config import BoundFile, Bundle, Device, Mount
from runtime.container.overlay import idmapped, overlay
from runtime.errors import Conflict, InvalidInput
from runtime.kernel import mount as m
from runtime.kernel import namespace as ns
from runtime.kernel import process

# Docker's mount options: name -> (attributes to set, attributes to clear)
FLAGS = {
    "ro": (m.MOUNT_ATTR_RDONLY, 0),
    "rw": (0, m.MOUNT_ATTR_RDONLY),
    "nosuid": (m.MOUNT_ATTR_NOSUID, 0),
    "suid": (0, m.MOUNT_ATTR_NOSUID),
    "nodev": (m.MOUNT_ATTR_NODEV, 0),
    "dev": (0, m.MOUNT_ATTR_NODEV),
    "noexec": (m.MOUNT_ATTR_NOEXEC, 0),
    "exec": (0, m.MOUNT_ATTR_NOEXEC),
    "noatime": (m.MOUNT_ATTR_NOATIME, m.MOUNT_ATTR_ATIME),
    "strictatime": (m.MOUNT_ATTR_STRICTATIME, m.MOUNT_ATTR_ATIME),
    "relatime": (0, m.MOUNT_ATTR_ATIME),
    "nodiratime": (m.MOUNT_ATTR_NODIRATIME, 0),
    "diratime": (0, m.MOUNT_ATTR_NODIRATIME),
}


def attributes(options: tuple[str, ...]) -> tuple[int, int]:
    """(set, clear) of mount_setattr for mount options. Raises InvalidInput for an unknown one."""
    on = off = 0
    for option in options:
        if option not in FLAGS:
            raise InvalidInput(f"cannot mount with option {option!r}", hint=f"known: {' '.join(FLAGS)}")
        on, off = on & ~FLAGS[option][1] | FLAGS[option][0], off & ~FLAGS[option][0] | FLAGS[option][1]
    return on, off


@dataclass(frozen=True, slots=True)
class Overlay:
    """The root file system: image layers under a writable upper directory."""

    lower: tuple[str, ...]
    upper: str
    work: str
    base: int
    attributes: int

    def describe(self) -> str:
        return f"overlay of {len(self.lower)} layers under {self.upper}"

    def open(self, userns: int) -> int:
        """Owners of layers are shifted by idmapped clones; the upper one keeps host-side ids."""
        for directory in (self.upper, self.work):
            if not os.path.isdir(directory):
                os.makedirs(directory, 0o755, exist_ok=True)
                os.chown(directory, self.base, self.base)
        fd = overlay(self.lower, userns if self.base else -1, self.upper, self.work)
        if self.attributes:
            m.mount_setattr(fd, set=self.attributes)
        return fd


@dataclass(frozen=True, slots=True)
class Dev:
    """/dev: a tmpfs with exactly the listed nodes, links and mount points."""

    base: int
    devices: tuple[Device, ...] = ()
    shm: bool = True  # without any shared memory there is no place for it either

    def describe(self) -> str:
        return "/dev with its nodes"

    def open(self, userns: int) -> int:
        options = {"mode": "755", "size": "65536k", "uid": str(self.base), "gid": str(self.base)}
        root = m.new_mount("tmpfs", options, m.MOUNT_ATTR_NOSUID | m.MOUNT_ATTR_NOEXEC)
        for name, target in defaults.DEVICE_LINKS.items():
            os.symlink(target, name, dir_fd=root)
            self._own(root, name)
        for name in ("pts", "mqueue", *(("shm",) if self.shm else ())):
            os.mkdir(name, 0o755, dir_fd=root)
            self._own(root, name)
        asked = {os.path.relpath(device.target, "/dev"): device for device in self.devices}
        for name, (major, minor) in defaults.DEVICE_NODES.items():
            if name not in asked:
                self._node(root, name, stat.S_IFCHR | 0o666, os.makedev(major, minor))
        for name, device in asked.items():
            try:
                self._show(root, name, device)
            except OSError as e:
                raise InvalidInput(f"cannot show device {device.source} at {device.target}: {e.strerror}") from e
        return root

    def _show(self, root: int, name: str, device: Device) -> None:
        found = os.stat(device.source)
        if not stat.S_ISCHR(found.st_mode) and not stat.S_ISBLK(found.st_mode):
            raise InvalidInput(f"cannot show device {device.source}: not a device node")
        if name.startswith(".."):
            raise InvalidInput(f"cannot show device {device.source} at {device.target}: only below /dev")
        self._node(root, name, found.st_mode, found.st_rdev, found.st_gid)

    def _node(self, root: int, name: str, mode: int, device: int, gid: int = 0) -> None:
        for parent in _parents(name):
            if not os.path.lexists(f"/proc/self/fd/{root}/{parent}"):
                os.mkdir(parent, 0o755, dir_fd=root)
                self._own(root, parent)
        os.mknod(name, mode, device, dir_fd=root)
        os.chmod(name, stat.S_IMODE(mode), dir_fd=root)
        self._own(root, name, gid)

    def _own(self, root: int, name: str, gid: int = 0) -> None:
        if self.base or gid:
            os.chown(name, self.base, self.base + gid, dir_fd=root, follow_symlinks=False)


def _parents(name: str) -> list[str]:
    parts = name.split("/")[:-1]
    return ["/".join(parts[: i + 1]) for i in range(len(parts))]


@dataclass(frozen=True, slots=True)
class Bind:
    """A directory or file of the host, cloned with what is mounted below it."""

    mount: Mount
    base: int

    def describe(self) -> str:
        return f"bind of {self.mount.source}"

    def open(self, userns: int) -> int:
        source = self.mount.source
        if self.mount.create_host_path and not os.path.lexists(source):
            os.makedirs(source, 0o755, exist_ok=True)
            if self.mount.idmap:
                os.chown(source, 0, 0)
        if self.mount.subpath:
            mapped = userns if self.base and self.mount.idmap else -1
            fd = _clone_below(source, self.mount.subpath, mapped, recursive=self.mount.recursive)
        elif self.base and self.mount.idmap:
            fd = idmapped(source, userns, recursive=self.mount.recursive, follow=True)
        else:
            fd = m.open_tree(m.AT_FDCWD, source, recursive=self.mount.recursive, follow=True)
        self._set_flags(fd)
        return fd

    def _set_flags(self, fd: int) -> None:
        kind = self.mount.propagation or "rprivate"
        m.mount_setattr(fd, propagation=m.PROPAGATION[kind.removeprefix("r")], recursive=kind.startswith("r"))
        on, off = attributes(self.mount.options)
        if self.mount.read_only:
            on |= m.MOUNT_ATTR_RDONLY
        if on or off:
            m.mount_setattr(fd, set=on, clear=off)
        if self.mount.recursive_read_only:
            m.mount_setattr(fd, set=m.MOUNT_ATTR_RDONLY, recursive=True)


def _clone_below(source: str, subpath: str, userns: int, *, recursive: bool) -> int:
    """A container may have written links below a volume: resolve inside it, then clone by descriptor."""
    outer = os.open(source, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    inner = -1
    try:
        try:
            inner = m.open_in_root(outer, subpath)
        except OSError as e:
            raise InvalidInput(f"cannot mount {subpath} of {source}: {e.strerror}", hint="it must be there") from e
        path = f"/proc/self/fd/{inner}"
        if userns >= 0:
            return idmapped(path, userns, recursive=recursive, follow=True)
        return m.open_tree(m.AT_FDCWD, path, recursive=recursive, follow=True)
    finally:
        for fd in (outer, inner):
            if fd >= 0:
                os.close(fd)


@dataclass(frozen=True, slots=True)
class SharedMemory:
    """The /dev/shm of the container whose ipc namespace is joined."""

    pid: int
    start_time: int

    def describe(self) -> str:
        return f"/dev/shm of process {self.pid}"

    def open(self, userns: int) -> int:
        """A mount can be cloned from inside its own mount namespace only, so we look in for a moment."""
        process_fd = process.Identity(self.pid, self.start_time, process.boot_id()).open()
        if process_fd is None:
            raise Conflict(f"cannot share /dev/shm with process {self.pid}: it is not running")
        home = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        fds = [process_fd, home]
        try:
            ns.setns(process_fd, ns.CLONE_NEWNS)
            try:
                fds.append(os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
                fds.append(m.open_in_root(fds[-1], "dev/shm", follow=False))
                return m.open_tree(fds[-1], "")
            finally:
                ns.setns(home, ns.CLONE_NEWNS)
        finally:
            for fd in fds:
                os.close(fd)


@dataclass(frozen=True, slots=True)
class ImageView:
    """Another image's layers, read-only."""

    mount: Mount
    base: int

    def describe(self) -> str:
        return f"image of {len(self.mount.layers)} layers"

    def open(self, userns: int) -> int:
        layers, mapped = self.mount.layers, userns if self.base else -1
        if len(layers) > 1:
            fd = overlay(layers, mapped, subpath=self.mount.subpath)
        else:
            fd = _clone_below(layers[0], self.mount.subpath or "/", mapped, recursive=False)
        m.mount_setattr(fd, set=m.MOUNT_ATTR_RDONLY | m.MOUNT_ATTR_NODEV | m.MOUNT_ATTR_NOSUID)
        return fd


@dataclass(frozen=True, slots=True)
class FileView:
    """A file of ours, given the owner it shall have inside."""

    file: BoundFile
    base: int

    def describe(self) -> str:
        return f"file {self.file.source}"

    def open(self, userns: int) -> int:
        os.chmod(self.file.source, self.file.mode)
        os.chown(self.file.source, self.base + self.file.uid, self.base + self.file.gid)
        fd = m.open_tree(m.AT_FDCWD, self.file.source)
        m.mount_setattr(fd, propagation=m.MS_PRIVATE)
        if self.file.read_only:
            m.mount_setattr(fd, set=m.MOUNT_ATTR_RDONLY)
        return fd


@dataclass(frozen=True, slots=True)
class CgroupView:
    """One hierarchy's view of the container's own group, read-only unless privileged."""

    directory: str
    read_only: bool

    def describe(self) -> str:
        return f"cgroup {self.directory}"

    def open(self, userns: int) -> int:
        fd = m.open_tree(m.AT_FDCWD, self.directory)
        flags = m.MOUNT_ATTR_NOSUID | m.MOUNT_ATTR_NODEV | m.MOUNT_ATTR_NOEXEC
        m.mount_setattr(fd, set=flags | (m.MOUNT_ATTR_RDONLY if self.read_only else 0), propagation=m.MS_PRIVATE)
        return fd


Source = Overlay | Dev | Bind | SharedMemory | ImageView | FileView | CgroupView


def host_devices(bundle: Bundle) -> tuple[Device, ...]:
    """The devices a container sees: those asked for, and all of the host's for a privileged one."""
    if not bundle.privileged:
        return bundle.devices
    found = []
    for directory, _, names in os.walk("/dev"):
        if directory.split("/")[2:3] in (["pts"], ["shm"], ["mqueue"]):
            continue
        for name in names:
            path = f"{directory}/{name}"
            mode = os.lstat(path).st_mode
            known = os.path.relpath(path, "/dev") in (*defaults.DEVICE_NODES, *defaults.DEVICE_LINKS, "console")
            if (stat.S_ISCHR(mode) or stat.S_ISBLK(mode)) and not known:
                found.append(Device(source=path, target=path))
    return (*bundle.devices, *(d for d in found if d.target not in {x.target for x in bundle.devices}))
