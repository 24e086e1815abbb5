"""`Bundle`: everything the spawner needs to start one container, decided and resolved beforehand.

Frozen, plain and JSON-able, because it crosses a process border and is kept as a record. Nothing in
it is looked up again later, except users, which only the container's own root file system knows.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from runtime.container import defaults
from runtime.kernel.cgroup_values import Limits

_UNLIMITED = Limits()


@dataclass(frozen=True, slots=True, kw_only=True)
class Namespaces:
    """Each is "private", "host" or "PID:START_TIME" of a process whose namespace is joined.

    `net` "private" is a new, empty one. `user` "private" means the bundle's id range, or none without one.
    """

    pid: str = "private"
    ipc: str = "private"
    uts: str = "private"
    net: str = "private"
    cgroup: str = "private"
    user: str = "private"
    time: str = "private"

    def private(self, name: str) -> bool:
        """Whether a new namespace of this kind is made."""
        return str(getattr(self, name)) == "private"

    def joined(self) -> dict[str, tuple[int, int]]:
        """Namespaces of others by kind: (pid, start time)."""
        values = ((name, getattr(self, name)) for name in ("user", "pid", "ipc", "uts", "net"))
        return {name: (int(v.split(":")[0]), int(v.split(":")[1])) for name, v in values if ":" in v}


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """One mount. `source` is a host path (a volume's directory too); for "image" see `layers`.

    `options` may hold noexec, nosuid, nodev, noatime, … `copy_up` fills an empty source with what
    the image has at the target. `idmap` shows host owners as the container's own.
    """

    type: Literal["bind", "tmpfs", "image"]
    target: str
    source: str = ""
    layers: tuple[str, ...] = ()  # topmost first
    read_only: bool = False
    recursive_read_only: bool = False
    recursive: bool = True
    propagation: str = "rprivate"
    create_host_path: bool = False
    subpath: str = ""
    copy_up: bool = False
    idmap: bool = True
    size: int | None = None
    mode: int | None = None
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundFile:
    """A file of ours (hosts, resolv.conf, a secret) shown at `target`, with owner as the container counts."""

    source: str
    target: str
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    read_only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A host device node shown at `target`; `permissions` out of rwm go to the device cgroup."""

    source: str
    target: str
    permissions: str = "rwm"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rlimit:
    """man 2 getrlimit; name without RLIMIT_, in lower case; -1 is infinity."""

    name: str
    soft: int
    hard: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """Where output goes; `max_bytes` per file (0: no bound) and `max_files` bound json-file and local.

    `options` are Docker's for syslog and journald (syslog-address, syslog-facility, tag); `name` and
    `image` are what a tag or a journal field may speak of.
    """

    driver: str = "json-file"
    max_bytes: int = 10 << 20
    max_files: int = 5
    options: Mapping[str, str] = field(default_factory=dict)
    name: str = ""
    image: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """One container, ready to be started. Paths are absolute; `lower` has the topmost layer first."""

    id: str
    directory: str  # of this container on the data disk: logs
    run_directory: str  # of this container, volatile: sockets, run and exit records
    lower: tuple[str, ...]
    upper: str
    work: str
    args: tuple[str, ...]
    cgroup: str
    userns_base: int = 0  # 0: no user namespace
    userns_size: int = 65536
    environment: tuple[str, ...] = ()
    cwd: str = "/"
    user: str = ""
    group_add: tuple[str, ...] = ()
    tty: bool = False
    open_stdin: bool = False
    stdin_once: bool = False
    hostname: str = ""
    domainname: str = ""
    namespaces: Namespaces = Namespaces()
    mounts: tuple[Mount, ...] = ()
    files: tuple[BoundFile, ...] = ()
    devices: tuple[Device, ...] = ()
    device_rules: tuple[str, ...] = ()  # beside the defaults, "c 10:200 rwm"
    capabilities: tuple[str, ...] = defaults.CAPABILITIES
    no_new_privileges: bool = False
    privileged: bool = False
    seccomp: str = "default"  # "default", "unconfined" or a profile's JSON text
    apparmor: str = ""
    masked_paths: tuple[str, ...] = defaults.MASKED_PATHS
    readonly_paths: tuple[str, ...] = defaults.READONLY_PATHS
    readonly_rootfs: bool = False
    rlimits: tuple[Rlimit, ...] = ()
    sysctls: Mapping[str, str] = field(default_factory=dict)
    oom_score_adj: int = 0
    shm_size: int = defaults.SHM_SIZE  # of an ipc namespace of its own; 0: no /dev/shm
    init: bool = False
    limits: Limits = _UNLIMITED
    log: Log = Log()
    stop_signal: str = "SIGTERM"

    @property
    def in_userns(self) -> bool:
        """Whether the container has a user namespace, its own or a joined one."""
        return self.userns_base > 0

    def to_json(self) -> dict[str, Any]:
        """A JSON-able tree; fields at their default are left out."""
        changed = (name for name in self.__slots__ if getattr(self, name) != getattr(_BLANK, name))
        return {name: _plain(getattr(self, name)) for name in changed}

    @classmethod
    def from_json(cls, tree: Mapping[str, Any]) -> Bundle:
        """What `to_json` gave, read back. Raises TypeError or ValueError."""
        fields = {name: _frozen(value) for name, value in tree.items()}
        for name, kind in _NESTED.items():
            if name in tree:
                value = tree[name]
                fields[name] = tuple(_make(kind, item) for item in value) if name in _SEQUENCES else _make(kind, value)
        return replace(_BLANK, **fields)

    def dumps(self) -> str:
        """The shortest JSON text of it."""
        return json.dumps(self.to_json(), separators=(",", ":"))


_BLANK = Bundle(id="", directory="", run_directory="", lower=(), upper="", work="", args=(), cgroup="")
_SEQUENCES = {"mounts": Mount, "files": BoundFile, "devices": Device, "rlimits": Rlimit}
_NESTED: dict[str, Any] = {"namespaces": Namespaces, "limits": Limits, "log": Log, **_SEQUENCES}
_KINDS = tuple(_NESTED.values())


def asked(payload: bytes) -> tuple[Bundle, bytes]:
    """A request to start a container, as JSON: its bundle, and the seccomp filter, b"" for none.

    Raises KeyError, TypeError or ValueError.
    """
    request = json.loads(payload)
    return Bundle.from_json(request["bundle"]), base64.b64decode(request["filter"])


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return {name: getattr(value, name) for name in value.__slots__} if isinstance(value, _KINDS) else value


def _frozen(value: Any) -> Any:
    """Lists become tuples, all the way down; objects stay."""
    return tuple(map(_frozen, value)) if isinstance(value, (list, tuple)) else value


def _make(kind: Any, tree: Mapping[str, Any]) -> Any:
    return kind(**{name: _frozen(value) for name, value in tree.items()})


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecRequest:
    """A further process in a running container: `pid` and `start_time` name the container's init.

    Everything that is not about this one process comes from the container's `Bundle`.
    """

    bundle: Bundle
    pid: int
    start_time: int
    args: tuple[str, ...]
    environment: tuple[str, ...] = ()  # complete: the container's, with the exec's over it
    cwd: str = ""
    user: str | None = None  # None: the container's
    tty: bool = False
    stdin: bool = False
    privileged: bool = False
    rows: int = 0
    columns: int = 0

    def to_json(self) -> dict[str, Any]:
        """A JSON-able tree."""
        fields = {name: getattr(self, name) for name in self.__slots__ if name != "bundle"}
        return {"bundle": self.bundle.to_json(), **fields}

    @classmethod
    def from_json(cls, tree: Mapping[str, Any]) -> ExecRequest:
        """What `to_json` gave, read back. Raises TypeError or ValueError."""
        fields = {name: _frozen(value) for name, value in tree.items()}
        return cls(**{**fields, "bundle": Bundle.from_json(tree["bundle"])})
