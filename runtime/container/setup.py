"""From a `Bundle` to the steps that make it real: pure, printable, in order.

`sources` are opened by the monitor (the host's root), `operations` carried out by the container's
first process with the descriptors of the sources, by index.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from runtime.container import defaults
from runtime.container import operations as op
from runtime.container import sources as src
from runtime.container.config import Bundle, Mount, Namespaces
from runtime.errors import InvalidInput
from runtime.kernel import mount as m
from runtime.kernel import namespace as ns

_SAFE = m.MOUNT_ATTR_NOSUID | m.MOUNT_ATTR_NODEV | m.MOUNT_ATTR_NOEXEC
_TMPFS_OPTIONS = ("size", "mode", "uid", "gid", "nr_blocks", "nr_inodes", "huge", "mpol")

# kind of namespace -> file systems that only a member of it can mount
FILESYSTEMS_OF = {"net": "/sys", "pid": "/proc", "ipc": "/dev/mqueue"}


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything between the clone and the command."""

    clone_flags: int
    sources: tuple[src.Source, ...]
    operations: tuple[op.Operation, ...]

    def describe(self) -> str:
        """One line per step."""
        prepared = [f"open {s.describe()}" for s in self.sources]
        return "\n".join([*prepared, *(o.describe() for o in self.operations)])


def plan(bundle: Bundle, cgroup_directories: dict[str, str]) -> Plan:
    """Decide every step. `cgroup_directories` are those of the container's group by controller ("" is version 2)."""
    sources: list[src.Source] = [
        src.Overlay(bundle.lower, bundle.upper, bundle.work, bundle.userns_base, _root_attributes(bundle)),
        src.Dev(bundle.userns_base, src.host_devices(bundle), shm=_has_shm(bundle)),
    ]
    steps: list[op.Operation] = [op.AttachRoot()]

    def add(source: src.Source, target: str, *, follow: bool = True, copy_up: bool = False, seal: bool = False) -> None:
        steps.append(op.Attach(len(sources), target, source.describe(), follow, copy_up, seal))
        sources.append(source)

    steps += [op.NewFilesystem("proc", "/proc"), op.Attach(1, "/dev", "its nodes", follow=False)]
    steps += _filesystems(bundle)
    _shared_memory(bundle, add, steps)
    if bundle.tty:
        steps.append(op.Console())
    _cgroups(bundle, cgroup_directories, add, steps)
    for mount in sorted(bundle.mounts, key=lambda mount: mount.target.rstrip("/").count("/")):
        if mount.type == "tmpfs":
            steps.append(_tmpfs(mount))
        elif mount.type == "image":
            add(src.ImageView(mount, bundle.userns_base), mount.target)
        else:
            late = mount.copy_up and mount.read_only  # the image's content has to go in first
            source = src.Bind(replace(mount, read_only=False) if late else mount, bundle.userns_base)
            add(source, mount.target, copy_up=mount.copy_up, seal=late)
    for file in bundle.files:
        add(src.FileView(file, bundle.userns_base), file.target)
    steps += _restrictions(bundle)
    steps.append(op.WorkingDirectory(bundle.cwd))
    steps.append(op.PivotRoot(bundle.readonly_rootfs))
    return Plan(clone_flags(bundle), tuple(sources), tuple(steps))


def clone_flags(bundle: Bundle) -> int:
    """Flags of clone3 for the new namespaces; the cgroup's is made later, from inside the group."""
    flags = ns.CLONE_NEWNS
    for kind in ("pid", "ipc", "uts", "net"):
        if bundle.namespaces.private(kind):
            flags |= ns.FLAGS[kind]
    if bundle.userns_base and bundle.namespaces.private("user"):
        flags |= ns.CLONE_NEWUSER
    if bundle.namespaces.private("time") and ns.supported("time"):
        flags |= ns.CLONE_NEWTIME
    return flags


def _root_attributes(bundle: Bundle) -> int:
    """Device nodes of an image are dead, unless the container may make some; so is setuid where it gains nothing."""
    nodev = 0 if bundle.privileged or "MKNOD" in bundle.capabilities else m.MOUNT_ATTR_NODEV
    return nodev | (m.MOUNT_ATTR_NOSUID if bundle.no_new_privileges else 0)


def _filesystems(bundle: Bundle) -> list[op.Operation]:
    writable = bundle.privileged
    return [
        op.NewFilesystem("sysfs", "/sys", (), _SAFE | (0 if writable else m.MOUNT_ATTR_RDONLY)),
        op.NewFilesystem(
            "devpts",
            "/dev/pts",
            (("newinstance", None), ("ptmxmode", "0666"), ("mode", "0620"), ("gid", "5")),
            m.MOUNT_ATTR_NOSUID | m.MOUNT_ATTR_NOEXEC,
        ),
        op.NewFilesystem("mqueue", "/dev/mqueue"),
    ]


def _shared_memory(bundle: Bundle, add: object, steps: list[op.Operation]) -> None:
    """/dev/shm goes with the ipc namespace: one's own, another container's, the host's; none without a size."""
    assert callable(add)
    joined = bundle.namespaces.joined().get("ipc")
    if joined:
        add(src.SharedMemory(*joined), "/dev/shm", follow=False)
    elif bundle.namespaces.ipc == "host":
        hosts = Mount(type="bind", source="/dev/shm", target="/dev/shm", idmap=False)
        add(src.Bind(hosts, 0), "/dev/shm", follow=False)
    elif bundle.shm_size:
        steps.append(op.NewFilesystem("tmpfs", "/dev/shm", (("mode", "1777"), ("size", str(bundle.shm_size)))))


def _has_shm(bundle: Bundle) -> bool:
    namespaces = bundle.namespaces
    return bool(bundle.shm_size or namespaces.joined().get("ipc") or namespaces.ipc == "host")


def _cgroups(bundle: Bundle, directories: dict[str, str], add: object, steps: list[op.Operation]) -> None:
    """/sys/fs/cgroup: version 2's own group, or a tmpfs with one directory per version-1 controller."""
    assert callable(add)
    read_only = not bundle.privileged
    if set(directories) == {""}:
        add(src.CgroupView(directories[""], read_only), "/sys/fs/cgroup", follow=False)
        return
    named = {controller or "unified": directory for controller, directory in sorted(directories.items())}
    top = op.NewFilesystem("tmpfs", "/sys/fs/cgroup", (("mode", "755"), ("size", "64k")), directories=tuple(named))
    steps.append(top)
    for name, directory in named.items():
        add(src.CgroupView(directory, read_only), f"/sys/fs/cgroup/{name}", follow=False)
    if read_only:
        steps.append(op.Seal("/sys/fs/cgroup"))


def _tmpfs(mount: Mount) -> op.NewFilesystem:
    options: list[tuple[str, str | None]] = [("mode", f"{mount.mode:o}" if mount.mode is not None else "1777")]
    if mount.size:
        options.append(("size", str(mount.size)))
    flags: list[str] = []
    for option in mount.options:
        key, equals, value = option.partition("=")
        if equals and key in _TMPFS_OPTIONS:
            options = [o for o in options if o[0] != key] + [(key, value)]
        elif option in src.FLAGS:
            flags.append(option)
        else:
            raise InvalidInput(f"cannot mount a tmpfs on {mount.target} with option {option!r}")
    on, off = src.attributes(tuple(flags))
    attributes = _SAFE & ~off | on | (m.MOUNT_ATTR_RDONLY if mount.read_only else 0)
    return op.NewFilesystem("tmpfs", mount.target, tuple(options), attributes, follow=True)


def _restrictions(bundle: Bundle) -> list[op.Operation]:
    """Sysctls before /proc/sys becomes read-only; masks last, over everything mounted so far."""
    steps: list[op.Operation] = []
    if bundle.namespaces.private("net"):
        steps += [op.Sysctl(k, v, True) for k, v in defaults.NET_SYSCTLS.items() if k not in bundle.sysctls]
    for name, value in sorted(bundle.sysctls.items()):
        _check_sysctl(name, bundle.namespaces)
        steps.append(op.Sysctl(name, value))
    if not bundle.privileged:
        steps += [op.Readonly(path) for path in bundle.readonly_paths]
        if bundle.masked_paths:
            steps.append(op.Mask(bundle.masked_paths))
    return steps


# prefix of a kernel parameter -> the namespace it belongs to
_SYSCTLS = {
    "net.": "net",
    "fs.mqueue.": "ipc",
    "kernel.msgmax": "ipc",
    "kernel.msgmnb": "ipc",
    "kernel.msgmni": "ipc",
    "kernel.sem": "ipc",
    "kernel.shm": "ipc",
    "kernel.domainname": "uts",
}


def _check_sysctl(name: str, namespaces: Namespaces) -> None:
    """Only parameters of a namespace of the container's own may be set. Raises InvalidInput."""
    kind = next((kind for prefix, kind in _SYSCTLS.items() if name.startswith(prefix)), None)
    if kind is None or "/" in name or ".." in name:
        raise InvalidInput(f"cannot set sysctl {name}: it is not a container's own, it would change the host")
    if getattr(namespaces, kind) == "host":
        raise InvalidInput(f"cannot set sysctl {name}: the container shares the host's {kind} namespace")
