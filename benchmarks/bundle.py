"""An OCI bundle as strict as our default container, for runc and crun: the same namespaces (user included),
capabilities, seccomp profile, masks and pids limit. The root file system is ready-made, which favours them:
ours mounts an overlay in the measured time.
"""

from __future__ import annotations

import io
import json
import os
import platform
import subprocess
import tarfile
from pathlib import Path
from typing import Any

from benchmarks import enclosure
from examples.make_image import find_busybox, layer
from runtime.container import defaults

PROFILE = Path(__file__).resolve().parents[1] / "runtime/kernel/seccomp-default.json"
BASE = 400_000  # first host id of the bundle's user namespace


def make(directory: Path, args: list[str], *, user: bool = True) -> Path:
    """Write config.json and rootfs below `directory`; runc's own default fills in what we do not set."""
    root = directory / "rootfs"
    root.mkdir(parents=True)
    with tarfile.open(fileobj=io.BytesIO(layer(find_busybox()))) as tar:
        tar.extractall(root)
    if user:
        for path in (root, *root.rglob("*")):
            os.lchown(path, BASE, BASE)
    subprocess.run(["runc", "spec"], cwd=directory, check=True)
    config = json.loads((directory / "config.json").read_text())
    _tighten(config, args, user)
    (directory / "config.json").write_text(json.dumps(config))
    return directory


def _tighten(config: dict[str, Any], args: list[str], user: bool) -> None:
    capabilities = [f"CAP_{name}" for name in defaults.CAPABILITIES]
    process, linux = config["process"], config["linux"]
    process.update(args=args, terminal=False, noNewPrivileges=False, rlimits=[])
    process["capabilities"] = dict.fromkeys(("bounding", "effective", "permitted"), capabilities)
    config["root"]["readonly"] = False
    kinds = ["pid", "network", "ipc", "uts", "mount", *(["cgroup"] if os.path.exists("/proc/self/ns/cgroup") else [])]
    linux["namespaces"] = [{"type": kind} for kind in (*kinds, *(["user"] if user else []))]
    if user:
        mapping = [{"containerID": 0, "hostID": BASE, "size": 65536}]
        linux.update(uidMappings=mapping, gidMappings=mapping)
    linux["cgroupsPath"] = f"{enclosure.cgroup_parent()}/oci"
    linux["resources"] = {"pids": {"limit": 2048}, "devices": [{"allow": False, "access": "rwm"}]}
    linux["maskedPaths"], linux["readonlyPaths"] = list(defaults.MASKED_PATHS), list(defaults.READONLY_PATHS)
    linux["seccomp"] = _seccomp()


def _seccomp() -> dict[str, Any]:
    """Docker's profile as this machine's runtime wants it: native architecture, conditions resolved."""
    profile = json.loads(PROFILE.read_text())
    calls = [_call(c) for c in profile["syscalls"] if _applies(c)]
    arch = {"x86_64": "SCMP_ARCH_X86_64", "aarch64": "SCMP_ARCH_AARCH64"}[platform.machine()]
    return {"defaultAction": profile["defaultAction"], "defaultErrnoRet": 1, "architectures": [arch], "syscalls": calls}


def _applies(call: dict[str, Any]) -> bool:
    arch = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
    includes, excludes = call.get("includes") or {}, call.get("excludes") or {}
    granted = {f"CAP_{name}" for name in defaults.CAPABILITIES}
    wanted = set(includes.get("caps", ())) <= granted and arch in includes.get("arches", [arch])
    return wanted and not set(excludes.get("caps", ())) & granted and arch not in excludes.get("arches", ())


def _call(call: dict[str, Any]) -> dict[str, Any]:
    kept = {key: call[key] for key in ("names", "action", "args", "errnoRet") if call.get(key) is not None}
    return {"names": [call["name"]], **kept} if "name" in call else kept
