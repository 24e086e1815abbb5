"""The checks of `trueup doctor`: each looks at one thing and says what it found and what to do."""

from __future__ import annotations

import ctypes.util
import os
import platform
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from agent.settings import Settings

_OLDEST_KERNEL = (5, 15)
_CAPABILITIES = {
    0: "CAP_CHOWN",
    12: "CAP_NET_ADMIN",
    18: "CAP_SYS_CHROOT",
    21: "CAP_SYS_ADMIN",
    24: "CAP_SYS_RESOURCE",
    27: "CAP_MKNOD",
}
_OPTIONAL_CAPABILITIES = {24: "hard limits are not raised and oom_score_adj is not lowered"}
_SPACE = 2 << 30


@dataclass(frozen=True, slots=True)
class Check:
    """What was looked at. "note" works, with less; "missing" keeps containers from running."""

    name: str
    state: Literal["ok", "note", "missing"]
    found: str
    remedy: str = ""


def all_checks(settings: Settings) -> list[Check]:
    """Everything, in the order one would repair it."""
    checks: tuple[Callable[[], Iterator[Check]], ...] = (
        rights,
        kernel,
        cgroups,
        lambda: overlay(settings.root),
        idmapped_mounts,
        user_namespaces,
        seccomp,
        apparmor,
        nftables,
        forwarding,
        lambda: space(settings.root),
        lambda: volatile(settings.run_dir),
        lambda: listening(settings),
    )
    return [check for look in checks for check in look()]


def rights() -> Iterator[Check]:
    """Root, and the capabilities containers need (man 7 capabilities)."""
    if os.geteuid() != 0:
        yield Check("root", "missing", f"running as uid {os.geteuid()}", "run it with sudo")
        return
    yield Check("root", "ok", "running as root")
    held = int(_field("/proc/self/status", "CapEff") or "0", 16)
    lacking = {bit: name for bit, name in _CAPABILITIES.items() if not held >> bit & 1}
    for bit, name in lacking.items():
        if bit in _OPTIONAL_CAPABILITIES:
            yield Check(name, "note", f"not held: {_OPTIONAL_CAPABILITIES[bit]}")
        else:
            yield Check(name, "missing", "not held", "run outside of other containers, or give them this capability")
    if not lacking:
        yield Check("capabilities", "ok", "all that is needed")


def kernel() -> Iterator[Check]:
    """The mount API and clone3 as we use them."""
    release = platform.release()
    numbers = tuple(map(int, re.findall(r"\d+", release)[:2]))
    if numbers < _OLDEST_KERNEL:
        yield Check("kernel", "missing", f"{release} is older than 5.15", "apt install linux-image-amd64")
    else:
        yield Check("kernel", "ok", release)


def cgroups() -> Iterator[Check]:
    """v2, v1, or both side by side, with the controllers limits need."""
    unified = os.path.exists("/sys/fs/cgroup/cgroup.controllers")
    if unified:
        have = set(_read("/sys/fs/cgroup/cgroup.controllers").split())
    else:
        have = {line.split()[0] for line in _read("/proc/cgroups").splitlines()[1:] if line.endswith("\t1")}
    lacking = {"memory", "cpu", "pids"} - have
    version = "v2" if unified else "v1"
    if lacking:
        words = ", ".join(sorted(lacking))
        remedy = "boot with cgroup_enable=memory swapaccount=1 (in GRUB_CMDLINE_LINUX of /etc/default/grub)"
        yield Check("cgroups", "missing" if len(lacking) == 3 else "note", f"{version}, without {words}", remedy)
    else:
        yield Check("cgroups", "ok", f"{version} with memory, cpu and pids")


def overlay(root: str) -> Iterator[Check]:
    """Images as layers; the data root itself must not lie on an overlay."""
    if not re.search(r"\boverlay$", _read("/proc/filesystems"), re.MULTILINE):
        yield Check("overlay", "missing", "the kernel does not know it", "modprobe overlay")
        return
    path = _existing(root)
    kind = _file_system(path)
    if kind in ("overlay", "tmpfs"):
        state: Literal["note", "missing"] = "missing" if kind == "overlay" else "note"
        yield Check("overlay", state, f"{path} lies on {kind}", "choose a --root on ext4, xfs or btrfs")
    else:
        yield Check("overlay", "ok", f"{path} lies on {kind}")


def idmapped_mounts() -> Iterator[Check]:
    """mount_setattr (5.12), without which user namespaces would need a chown of every layer."""
    numbers = tuple(map(int, re.findall(r"\d+", platform.release())[:2]))
    if numbers >= (5, 19):
        yield Check("idmapped mounts", "ok", "also below overlay")
    else:
        yield Check("idmapped mounts", "note", "not below overlay before 5.19: containers share the host's users")


def user_namespaces() -> Iterator[Check]:
    """Each container has users of its own."""
    most = _read("/proc/sys/user/max_user_namespaces").strip()
    if not os.path.exists("/proc/self/ns/user") or most in ("", "0"):
        yield Check("user namespaces", "missing", "switched off", "sysctl -w user.max_user_namespaces=15000")
    else:
        yield Check("user namespaces", "ok", f"at most {most}")


def seccomp() -> Iterator[Check]:
    """System call filters."""
    if "Seccomp:" not in _read("/proc/self/status"):
        yield Check("seccomp", "missing", "the kernel has none", "use a distribution's kernel")
    else:
        yield Check("seccomp", "ok", _read("/proc/sys/kernel/seccomp/actions_avail").strip() or "filters")


def apparmor() -> Iterator[Check]:
    """A further wall where the distribution has it."""
    if _read("/sys/module/apparmor/parameters/enabled").strip() == "Y":
        if re.search(r"^trueup-default ", _read("/sys/kernel/security/apparmor/profiles"), re.MULTILINE):
            yield Check("AppArmor", "ok", "enabled, profile trueup-default is loaded")
        elif shutil.which("apparmor_parser", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"):
            yield Check("AppArmor", "ok", "enabled; the agent loads its profile when it starts")
        else:
            yield Check("AppArmor", "note", "enabled, but profiles cannot be loaded", "apt install apparmor")
    else:
        yield Check("AppArmor", "note", "not enabled in this kernel: the other walls stand")


def nftables() -> Iterator[Check]:
    """Published ports and NAT, through the library."""
    library = ctypes.util.find_library("nftables") or _library("libnftables.so.1")
    if library:
        yield Check("nftables", "ok", library)
    else:
        yield Check("nftables", "missing", "libnftables is not installed", "apt install libnftables1")


def forwarding() -> Iterator[Check]:
    """Bridged containers reach the outside through it; the agent switches it on itself."""
    on = _read("/proc/sys/net/ipv4/ip_forward").strip() == "1"
    yield Check("IPv4 forwarding", "ok", "on" if on else "off now; the agent switches it on with the first bridge")


def space(root: str) -> Iterator[Check]:
    """Room for images."""
    path = _existing(root)
    free = shutil.disk_usage(path).free
    text = f"{free / (1 << 30):.1f} GiB free at {path}"
    if free < _SPACE:
        yield Check("disk", "note", text, "make room, or choose another --root")
    else:
        yield Check("disk", "ok", text)


def volatile(run_dir: str) -> Iterator[Check]:
    """Contents of secrets lie there, and must not reach a disk."""
    path = _existing(run_dir)
    kind = _file_system(path)
    if kind in ("tmpfs", "ramfs"):
        yield Check("run directory", "ok", f"{path} lies on {kind}")
    else:
        yield Check("run directory", "note", f"{path} lies on {kind}: secrets reach the disk", "choose one below /run")


def listening(settings: Settings) -> Iterator[Check]:
    """Whether an agent answers."""
    from agent.cli.client import Client
    from runtime.errors import TrueupError

    for host in settings.hosts:
        if not host.startswith("unix://"):
            continue
        try:
            found = Client(host).answers()
        except TrueupError as e:
            yield Check("agent", "note", str(e))
        else:
            yield Check("agent", "ok" if found else "note", f"{'answers' if found else 'is not running'} at {host}")


def _library(name: str) -> str:
    try:
        ctypes.CDLL(name)
    except OSError:
        return ""
    return name


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def _field(path: str, name: str) -> str:
    match = re.search(rf"^{name}:\s*(\S+)", _read(path), re.MULTILINE)
    return match[1] if match else ""


def _existing(path: str) -> str:
    while not os.path.exists(path):
        path = os.path.dirname(path)
    return path


def _file_system(path: str) -> str:
    """The type of the mount that holds `path` (man 5 proc_pid_mountinfo)."""
    device = os.stat(path).st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for line in _read("/proc/self/mountinfo").splitlines():
        fields = line.split(" ")
        if fields[2] == wanted:
            return fields[fields.index("-") + 1]
    return "an unknown file system"
