"""What a container's first process does to its own mount namespace: small frozen steps that describe themselves.

Each step may `prepare` (make detached file systems before the root exists) and then is applied in
order. Targets are resolved inside the root by descriptor, once; our own fixed targets (/proc, /dev,
/sys) follow no link at all, so an image cannot redirect them.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field

from runtime.container.copy_up import copy_up
from runtime.container.defaults import PROC_FILES
from runtime.container.mount_points import existing, target_of
from runtime.errors import InvalidInput, Unsupported
from runtime.kernel import mount as m

_KEPT_BACK = (
    "this kernel does not have it, or keeps it from user namespaces, as those before 6.12 do with net.core and more: "
    "`userns_mode: host` starts the container without one"
)
_SAFE = m.MOUNT_ATTR_NOSUID | m.MOUNT_ATTR_NODEV | m.MOUNT_ATTR_NOEXEC


@dataclass(slots=True)
class Stage:
    """Where the steps act: the root's descriptor, mounts handed over, mounts prepared by steps."""

    root: int = -1
    sources: list[int] = field(default_factory=list)
    prepared: dict[str, int] = field(default_factory=dict)
    terminal: int = -1  # slave end of the container's terminal


class Step:
    """What every step can do; most have nothing to prepare."""

    __slots__ = ()

    def prepare(self, stage: Stage) -> None:
        """Make what needs no root yet."""


@dataclass(frozen=True, slots=True)
class AttachRoot(Step):
    """Attach the root file system in our namespace, on the one place that is surely there, and enter it."""

    source: int = 0

    def describe(self) -> str:
        return "attach the root file system"

    def apply(self, stage: Stage) -> None:
        fd = stage.sources[self.source]
        place = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        m.move_mount(fd, place)
        os.close(place)
        stage.root = fd
        os.fchdir(fd)


def _place(stage: Stage, path: str, *, directory: bool, follow: bool) -> int:
    """The descriptor of a mount point. What is asked for may not lie in /proc: through that the kernel is told of us.

    Raises InvalidInput.
    """
    target = target_of(stage.root, path, directory=directory, follow=follow)
    proc = stage.prepared.get("/proc", -1) if follow and path not in PROC_FILES else -1
    if proc >= 0 and os.fstat(target).st_dev == os.fstat(proc).st_dev:
        os.close(target)
        raise InvalidInput(f"cannot mount on {path}: it lies in /proc", hint="of /proc only some files can be replaced")
    return target


@dataclass(frozen=True, slots=True)
class Attach(Step):
    """Attach a mount that was handed over; `follow` resolves links of the image inside the root."""

    source: int
    target: str
    what: str
    follow: bool = True
    copy_up: bool = False
    seal: bool = False  # read-only from then on

    def describe(self) -> str:
        return f"mount {self.what} on {self.target}"

    def apply(self, stage: Stage) -> None:
        fd = stage.sources[self.source]
        directory = stat.S_ISDIR(os.fstat(fd).st_mode)
        target = _place(stage, self.target, directory=directory, follow=self.follow)
        if self.copy_up and directory:
            copy_up(target, fd)
        m.move_mount(fd, target)
        os.close(target)
        if self.seal:
            m.mount_setattr(fd, set=m.MOUNT_ATTR_RDONLY)


@dataclass(frozen=True, slots=True)
class NewFilesystem(Step):
    """A file system of a kind that belongs to the container's own namespaces; with `follow` one that was asked for."""

    fs: str
    target: str
    options: tuple[tuple[str, str | None], ...] = ()
    attributes: int = _SAFE
    follow: bool = False
    directories: tuple[str, ...] = ()  # made in it

    def describe(self) -> str:
        return f"mount {self.fs} on {self.target}"

    @property
    def name(self) -> str:
        """What it is prepared as: what is asked for may lie on one of ours."""
        return f"{self.target}, asked for" if self.follow else self.target

    def prepare(self, stage: Stage) -> None:
        if self.name not in stage.prepared:
            made = stage.prepared[self.name] = m.new_mount(self.fs, dict(self.options), self.attributes)
            for name in self.directories:
                os.mkdir(name, 0o755, dir_fd=made)

    def apply(self, stage: Stage) -> None:
        target = _place(stage, self.target, directory=True, follow=self.follow)
        m.move_mount(stage.prepared[self.name], target)
        os.close(target)


@dataclass(frozen=True, slots=True)
class Seal(Step):
    """Make a file system of ours read-only, now that everything is in it."""

    target: str

    def describe(self) -> str:
        return f"seal {self.target}"

    def apply(self, stage: Stage) -> None:
        m.mount_setattr(stage.prepared[self.target], set=m.MOUNT_ATTR_RDONLY)


@dataclass(frozen=True, slots=True)
class Readonly(Step):
    """Show a path read-only by a clone of itself on top; nothing when there is no such path."""

    path: str

    def describe(self) -> str:
        return f"make {self.path} read-only"

    def apply(self, stage: Stage) -> None:
        target = existing(stage.root, self.path)
        if target is None:
            return
        clone = m.open_tree(target, "", recursive=True)
        m.mount_setattr(clone, set=m.MOUNT_ATTR_RDONLY)
        m.move_mount(clone, target)
        os.close(clone)
        os.close(target)


@dataclass(frozen=True, slots=True)
class Mask(Step):
    """Hide a path: a file behind /dev/null, a directory behind an empty read-only tmpfs all of them share."""

    paths: tuple[str, ...]

    def describe(self) -> str:
        return f"mask {' '.join(self.paths)}"

    def apply(self, stage: Stage) -> None:
        empty = -1
        null = existing(stage.root, "/dev/null")
        for path in self.paths:
            target = existing(stage.root, path)
            if target is None:
                continue
            if stat.S_ISDIR(os.fstat(target).st_mode):
                if empty < 0:  # the first is the one itself: before Linux 6.15 only what is attached can be cloned
                    clone = empty = m.new_mount(
                        "tmpfs", {"nr_blocks": "1", "nr_inodes": "1"}, _SAFE | m.MOUNT_ATTR_RDONLY
                    )
                else:
                    clone = m.open_tree(empty, "")
            elif null is not None:
                clone = m.open_tree(null, "")
            m.move_mount(clone, target)
            if clone != empty:
                os.close(clone)
            os.close(target)


@dataclass(frozen=True, slots=True)
class Console(Step):
    """Show the terminal's slave end as /dev/console."""

    def describe(self) -> str:
        return "mount the terminal on /dev/console"

    def apply(self, stage: Stage) -> None:
        target = target_of(stage.root, "/dev/console", directory=False, follow=False)
        clone = m.open_tree(stage.terminal, "")
        m.move_mount(clone, target)
        os.close(clone)
        os.close(target)


@dataclass(frozen=True, slots=True)
class Sysctl(Step):
    """Write one namespaced kernel parameter through the container's own /proc."""

    name: str
    value: str
    optional: bool = False

    def describe(self) -> str:
        return f"set sysctl {self.name}={self.value}"

    def apply(self, stage: Stage) -> None:
        path = "sys/" + self.name.replace(".", "/")
        try:
            fd = m.openat2(
                stage.prepared["/proc"], path, os.O_WRONLY, resolve=m.RESOLVE_NO_SYMLINKS | m.RESOLVE_BENEATH
            )
            try:
                os.write(fd, self.value.encode())
            finally:
                os.close(fd)
        except (FileNotFoundError, PermissionError) as e:
            if not self.optional:
                raise Unsupported(f"cannot {self.describe()}: {e.strerror}", hint=_KEPT_BACK) from e
        except OSError:
            if not self.optional:
                raise


@dataclass(frozen=True, slots=True)
class WorkingDirectory(Step):
    """Make the working directory where the image lacks it."""

    path: str

    def describe(self) -> str:
        return f"make the working directory {self.path}"

    def apply(self, stage: Stage) -> None:
        os.close(target_of(stage.root, self.path, directory=True, doing="work in"))


@dataclass(frozen=True, slots=True)
class PivotRoot(Step):
    """Make the root file system the root of our namespace and let go of the host's."""

    read_only: bool

    def describe(self) -> str:
        return "pivot into the root file system" + (", read-only" if self.read_only else "")

    def apply(self, stage: Stage) -> None:
        os.fchdir(stage.root)
        m.pivot_root(".", ".")  # the old root is now mounted over the new one: both are "."
        m.umount2(".", m.MNT_DETACH)
        os.chdir("/")
        if self.read_only:
            m.mount_setattr(stage.root, set=m.MOUNT_ATTR_RDONLY)


Operation = (
    AttachRoot | Attach | NewFilesystem | Seal | Readonly | Mask | Console | Sysctl | WorkingDirectory | PivotRoot
)  # fmt: skip
