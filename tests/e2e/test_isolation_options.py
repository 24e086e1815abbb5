"""Every option about isolation, from a spec and over the API: what the kernel shows of it inside the container.

One agent runs every row twice, at the same time: as a service of one project, and as a container an API client made.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from benchmarks.client import Client, EngineError
from runtime.kernel import capability
from tests import leaks
from tests.e2e.harness import IMAGE, AgentUnderTest

pytestmark = [pytest.mark.privileged, pytest.mark.slow]

DENY_MKDIR = {
    "defaultAction": "SCMP_ACT_ALLOW",
    "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}],
}
OURS = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "NET_BIND_SERVICE", "SETFCAP", "SETGID", "SETPCAP")
OURS += ("SETUID", "SYS_CHROOT")
BLOCK = next((f"/dev/{d}" for d in ("vda", "sda", "loop0") if Path(f"/dev/{d}").is_block_device()), "")

CAPS = "sed -n 's/^CapEff:[[:space:]]*//p' /proc/self/status"
MINE = "grep ' /m ' /proc/self/mountinfo"


def group(v2: str, v1: str) -> str:
    """Prints a file of the container's own group, by its path in either version."""
    return f"cat /sys/fs/cgroup/{v2} 2>/dev/null || cat /sys/fs/cgroup/{v1}"


def caps(*names: str) -> str:
    """What CapEff shows for these."""
    return f"{capability.mask(names):016x}"


def everything() -> str:
    """What CapEff shows for all that this machine's root has."""
    return f"{capability.all_known() & capability.get()[1]:016x}"


class Row(NamedTuple):
    """`spec` is part of a service, `body` of a create body's HostConfig, `more` of the body itself; None: has no such.

    `answer` is what `script` prints, white space aside; HOST and DIR stand for the host's and the test's own.
    """

    name: str
    script: str
    answer: str
    spec: dict[str, Any] | None
    body: dict[str, Any] | None
    more: dict[str, Any] = {}  # noqa: RUF012


def bind(**options: Any) -> dict[str, Any]:
    """A service's bind of the test's directory at /m."""
    return {"volumes": [{"type": "bind", "source": "DIR/bind", "target": "/m", **options}]}


def mount(**options: Any) -> dict[str, Any]:
    """The same over the API."""
    return {"Mounts": [{"Type": "bind", "Source": "DIR/bind", "Target": "/m", **options}]}


def volume(source: str, **options: Any) -> dict[str, Any]:
    """A service's named volume at /www, where the image has a page."""
    return {"volumes": [{"type": "volume", "source": source, "target": "/www", "volume": options}]}


def api_volume(source: str, **options: Any) -> dict[str, Any]:
    """The same over the API."""
    return {"Mounts": [{"Type": "volume", "Source": source, "Target": "/www", "VolumeOptions": options}]}


def option(text: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """A security option, spelled alike on both ways."""
    return {"security_opt": [text]}, {"SecurityOpt": [text]}


def shared(kind: str) -> str:
    """Says whether a namespace is the host's."""
    return f"[ $(readlink /proc/self/ns/{kind}) = HOST/{kind} ] && echo shared || echo own"


WRITE = "for d in /m /m/sub; do touch $d/x 2>/dev/null && echo $d; done; true"
SIZE = "df -k $1 | tail -n 1 | tr -s ' ' | cut -d' ' -f2"

ROWS = (
    # mounts
    Row("bind", WRITE, "/m /m/sub", bind(), mount()),
    Row("bind-ro", WRITE, "", bind(read_only=True), mount(ReadOnly=True)),
    Row("bind-ro-short", WRITE, "", {"volumes": ["DIR/bind:/m:ro"]}, {"Binds": ["DIR/bind:/m:ro"]}),
    Row("bind-ro-writable", WRITE, "/m/sub", bind(read_only=True, bind={"recursive": "writable"}),
        mount(ReadOnly=True, BindOptions={"ReadOnlyNonRecursive": True})),
    Row("bind-rro", WRITE, "", bind(read_only=True, bind={"recursive": "readonly"}),
        mount(ReadOnly=True, BindOptions={"ReadOnlyForceRecursive": True})),
    Row("bind-not-recursive", "ls /m/sub", "", bind(bind={"recursive": "disabled"}),
        mount(BindOptions={"NonRecursive": True})),
    Row("bind-recursive", "ls /m/sub/below", "/m/sub/below", bind(bind={"recursive": "enabled"}), mount()),
    Row("bind-shared", f"{MINE} | grep -c shared:", "1", bind(bind={"propagation": "rshared"}),
        mount(BindOptions={"Propagation": "rshared"})),
    Row("bind-private", f"{MINE} | grep -cE 'shared:|master:' || true", "0", bind(bind={"propagation": "rprivate"}),
        mount(BindOptions={"Propagation": "rprivate"})),
    Row("bind-made", "ls -d /m", "/m", {"volumes": ["DIR/made-spec:/m"]}, {"Binds": ["DIR/made-api:/m"]}),
    Row("volume-copy", "ls /www", "index.html", volume("copied"), api_volume("api-copied")),
    Row("volume-nocopy", "ls /www", "", volume("empty", nocopy=True), api_volume("api-empty", NoCopy=True)),
    Row("volume-ro", "touch /www/x 2>/dev/null || echo no", "no", {"volumes": ["copied2:/www:ro"]},
        {"Binds": ["api-copied2:/www:ro"]}),
    Row("volume-subpath", "cat /www/inner", "inner", volume("parts", subpath="sub"),
        api_volume("parts", Subpath="sub")),
    Row("tmpfs", "set -- /t; " + SIZE + "; stat -c %a /t; grep ' /t ' /proc/mounts | grep -c noexec", "1024 700 1",
        {"tmpfs": ["/t:size=1m,mode=700"]}, {"Tmpfs": {"/t": "size=1m,mode=700"}}),
    Row("tmpfs-exec", "grep ' /t ' /proc/mounts | grep -c noexec || true", "0", {"tmpfs": ["/t:exec"]},
        {"Tmpfs": {"/t": "exec"}}),
    Row("tmpfs-long", "set -- /t; " + SIZE + "; stat -c %a /t", "2048 750",
        {"volumes": [{"type": "tmpfs", "target": "/t", "tmpfs": {"size": "2m", "mode": 0o750}}]},
        {"Mounts": [{"Type": "tmpfs", "Target": "/t", "TmpfsOptions": {"SizeBytes": 2 << 20, "Mode": 0o750}}]}),
    Row("image", "ls /i/bin/busybox; touch /i/x 2>/dev/null || echo no", "/i/bin/busybox no",
        {"volumes": [{"type": "image", "source": IMAGE, "target": "/i"}]},
        {"Mounts": [{"Type": "image", "Source": IMAGE, "Target": "/i"}]}),
    Row("image-subpath", "ls /i", "index.html",
        {"volumes": [{"type": "image", "source": IMAGE, "target": "/i", "image": {"subpath": "www"}}]},
        {"Mounts": [{"Type": "image", "Source": IMAGE, "Target": "/i", "ImageOptions": {"Subpath": "www"}}]}),
    Row("read-only", "touch /x 2>/dev/null || echo no; touch /dev/shm/x && echo yes", "no yes", {"read_only": True},
        {"ReadonlyRootfs": True}),
    Row("shm-size", "set -- /dev/shm; " + SIZE, "1024", {"shm_size": "1m"}, {"ShmSize": 1 << 20}),
    # devices
    Row("device", "(: < /dev/inner/loops) && echo read; (: > /dev/inner/loops) 2>/dev/null || echo no", "read no",
        {"devices": ["/dev/loop-control:/dev/inner/loops:r"]},
        {"Devices": [{"PathOnHost": "/dev/loop-control", "PathInContainer": "/dev/inner/loops",
                      "CgroupPermissions": "r"}]}),
    Row("device-rule", "mknod /n c 10 237 && (: < /n) && echo read; mknod /z c 10 229 2>/dev/null || echo no",
        "read no", {"cap_add": ["MKNOD"], "device_cgroup_rules": ["c 10:237 rm"]},
        {"CapAdd": ["MKNOD"], "DeviceCgroupRules": ["c 10:237 rm"]}),
    # the process
    Row("init", "[ $$ = 1 ] && echo first || echo below", "below", {"init": True}, {"Init": True}),
    Row("no-init", "[ $$ = 1 ] && echo first || echo below", "first", {"init": False}, {"Init": False}),
    Row("sysctls", "cat /proc/sys/net/core/somaxconn /proc/sys/kernel/shmmni", "77 99",
        {"sysctls": {"net.core.somaxconn": 77, "kernel.shmmni": "99"}},
        {"Sysctls": {"net.core.somaxconn": "77", "kernel.shmmni": "99"}}),
    Row("ulimits", "ulimit -Sn; ulimit -Hn; ulimit -u", "111 222 333",
        {"ulimits": {"nofile": {"soft": 111, "hard": 222}, "nproc": 333}},
        {"Ulimits": [{"Name": "nofile", "Soft": 111, "Hard": 222}, {"Name": "nproc", "Soft": 333, "Hard": 333}]}),
    Row("oom-score", "cat /proc/self/oom_score_adj", "321", {"oom_score_adj": 321}, {"OomScoreAdj": 321}),
    Row("groups", "id -G", "0 77 1000", {"group_add": ["77", "users"]}, {"GroupAdd": ["77", "users"]}),
    Row("user", "id -u; id -g; id -G", "1000 33 33", {"user": "user:www"}, {}, {"User": "user:www"}),
    Row("hostname", "hostname; cat /proc/sys/kernel/domainname", "box example.test",
        {"hostname": "box", "domainname": "example.test"}, {}, {"Hostname": "box", "Domainname": "example.test"}),
    Row("working-dir", "pwd", "/deep/down", {"working_dir": "/deep/down"}, {}, {"WorkingDir": "/deep/down"}),
    # rights
    Row("cap-add", CAPS, caps(*OURS, "NET_RAW", "SYS_PTRACE"), {"cap_add": ["net_raw", "CAP_SYS_PTRACE"]},
        {"CapAdd": ["net_raw", "CAP_SYS_PTRACE"]}),
    Row("cap-drop", CAPS, caps(*OURS[2:]), {"cap_drop": ["CAP_CHOWN", "dac_override"]},
        {"CapDrop": ["CAP_CHOWN", "dac_override"]}),
    Row("cap-drop-all", CAPS, caps("KILL"), {"cap_drop": ["ALL"], "cap_add": ["KILL"]},
        {"CapDrop": ["ALL"], "CapAdd": ["KILL"]}),
    Row("cap-add-all", CAPS, everything(), {"cap_add": ["ALL"]}, {"CapAdd": ["ALL"]}),
    Row("privileged", f"{CAPS}; grep Seccomp: /proc/self/status; [ -e /dev/loop-control ] && (: < /dev/loop-control)"
        " && echo devices; mount -t tmpfs t /tmp && echo mounted; grep -c ' /sys sysfs rw' /proc/mounts",
        f"{everything()} Seccomp: 0 devices mounted 1", {"privileged": True}, {"Privileged": True}),
    Row("no-new-privileges", "grep NoNewPrivs /proc/self/status", "NoNewPrivs: 1", *option("no-new-privileges:true")),
    Row("new-privileges", "grep NoNewPrivs /proc/self/status", "NoNewPrivs: 0", *option("no-new-privileges:false")),
    Row("seccomp-unconfined", "grep Seccomp: /proc/self/status", "Seccomp: 0", *option("seccomp=unconfined")),
    Row("seccomp-profile", "mkdir /x 2>&1 | grep -o 'Function not implemented'", "Function not implemented",
        {"security_opt": ["seccomp=DIR/profile.json"]}, {"SecurityOpt": ["seccomp=" + json.dumps(DENY_MKDIR)]}),
    Row("apparmor-unconfined", "cat /proc/self/attr/current 2>/dev/null | grep -c enforce || true", "0",
        *option("apparmor=unconfined")),
    Row("label", "echo runs", "runs", *option("label=disable")),
    Row("systempaths", "grep -cE ' /proc/(sys|kallsyms) ' /proc/mounts || true", "0",
        *option("systempaths=unconfined")),
    Row("masked-paths", "ls /sys/firmware | wc -l; grep -c ' /proc/kcore ' /proc/mounts || true", "0 0", None,
        {"MaskedPaths": ["/sys/firmware"], "ReadonlyPaths": []}),
    # namespaces
    Row("pid-host", shared("pid"), "shared", {"pid": "host"}, {"PidMode": "host"}),
    Row("ipc-host", shared("ipc"), "shared", {"ipc": "host"}, {"IpcMode": "host"}),
    Row("ipc-none", shared("ipc") + "; ls -d /dev/shm 2>/dev/null || echo none", "own none", {"ipc": "none"},
        {"IpcMode": "none"}),
    Row("ipc-shareable", shared("ipc"), "own", {"ipc": "shareable"}, {"IpcMode": "shareable"}),
    Row("uts-host", shared("uts") + "; hostname", "shared NODE", {"uts": "host"}, {"UTSMode": "host"}),
    Row("cgroup-host", shared("cgroup"), "shared", {"cgroup": "host"}, {"CgroupnsMode": "host"}),
    Row("cgroup-private", shared("cgroup"), "own", {"cgroup": "private"}, {"CgroupnsMode": "private"}),
    Row("userns-host", shared("user"), "shared", {"userns_mode": "host"}, {"UsernsMode": "host"}),
    Row("userns-private", shared("user"), "own", {"x-trueup": {"userns": "private"}}, {"UsernsMode": "private"}),
    Row("net-host", shared("net"), "shared", {"network_mode": "host"}, {"NetworkMode": "host"}),
    Row("net-none", shared("net") + "; ls /sys/class/net", "own lo", {"network_mode": "none"}, {"NetworkMode": "none"}),
    # limits
    Row("memory", group("memory.max", "memory/memory.limit_in_bytes"), str(64 << 20), {"mem_limit": "64m"},
        {"Memory": 64 << 20}),
    Row("memory-reserved", group("memory.low", "memory/memory.soft_limit_in_bytes"), str(32 << 20),
        {"mem_reservation": "32m"}, {"MemoryReservation": 32 << 20}),
    Row("cpus", "cat /sys/fs/cgroup/cpu.max 2>/dev/null || "
        "cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/cpu/cpu.cfs_period_us", "50000 100000", {"cpus": 0.5},
        {"NanoCpus": 500_000_000}),
    Row("cpu-quota", "cat /sys/fs/cgroup/cpu.max 2>/dev/null || "
        "cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/cpu/cpu.cfs_period_us", "20000 40000",
        {"cpu_quota": 20000, "cpu_period": 40000}, {"CpuQuota": 20000, "CpuPeriod": 40000}),
    Row("cpuset", "grep -i cpus_allowed_list /proc/self/status", "Cpus_allowed_list: 0", {"cpuset": "0"},
        {"CpusetCpus": "0"}),
    Row("pids", group("pids.max", "pids/pids.max"), "99", {"pids_limit": 99}, {"PidsLimit": 99}),
    *([] if not BLOCK else [Row(
        "device-rate", "grep -ho 1048576 /sys/fs/cgroup/io.max /sys/fs/cgroup/blkio/*read_bps_device 2>/dev/null",
        "1048576", {"blkio_config": {"device_read_bps": [{"path": BLOCK, "rate": "1mb"}]}},
        {"BlkioDeviceReadBps": [{"Path": BLOCK, "Rate": 1 << 20}]},
    )]),
    Row("pids-unlimited", group("pids.max", "pids/pids.max"), "max", {"pids_limit": -1}, {"PidsLimit": -1}),
)  # fmt: skip


class Both:
    """The agent with every row's containers, and what they printed."""

    def __init__(self, agent: AgentUnderTest, home: Path) -> None:
        self.agent, self.home = agent, home
        self.client = Client(agent.socket)
        self.failed: dict[str, str] = {}

    def fill(self) -> None:
        """What rows speak of on the host: directories, a mount, a profile, a volume with parts."""
        for name in ("bind/sub", "out"):
            (self.home / name).mkdir(parents=True)
        (self.home / "out").chmod(0o777)
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", self.home / "bind/sub"], check=True)
        (self.home / "bind/sub/below").touch()
        (self.home / "profile.json").write_text(json.dumps(DENY_MKDIR))
        made = self.agent.api("/volumes/create", "POST", {"Name": "parts"})
        part = Path(made["Mountpoint"], "sub")
        part.mkdir(parents=True)
        (part / "inner").write_text("inner")

    def run(self) -> None:
        """Every row, both ways; returns when all have ended."""
        services = {row.name: self._service(row) for row in ROWS if row.spec is not None}
        volumes = {name: {} for name in ("copied", "copied2", "empty")} | {"parts": {"external": True}}
        project = {"name": "options", "services": services, "volumes": volumes}
        self.client.run("sleep", "1000", name="closed", image=IMAGE)
        self.write(project)
        for row in ROWS:
            if row.body is not None:
                self._create(row)
        self.agent.until("every row has ended", self._ended, 90)

    def write(self, project: dict[str, Any]) -> None:
        """A project of its own among the specs."""
        directory = self.agent.specs / project["name"]
        directory.mkdir()
        (directory / "compose.yaml").write_text(json.dumps(project))

    def take_away(self, prefix: str) -> None:
        """The projects of that name, with all they made."""
        for directory in self.agent.specs.glob(f"{prefix}*"):
            shutil.rmtree(directory)
        self.agent.until(f"{prefix} is gone", lambda: not self._there(prefix), 60)

    def _there(self, prefix: str) -> list[str]:
        names = [c["Names"][0] for c in self.agent.api("/containers/json?all=1")]
        return [name for name in names if name.startswith(f"/{prefix}")]

    def printed(self, name: str, way: str) -> str:
        """What a row's container printed."""
        return " ".join((self.home / "out" / f"{name}-{way}").read_text().split())

    def _service(self, row: Row) -> dict[str, Any]:
        given = self.here(row.spec)
        return {
            "image": IMAGE, "restart": "no", **given, "command": self._command(row, "spec"),
            "volumes": [*given.get("volumes", ()), f"{self.home}/out:/out"],
        }  # fmt: skip

    def _create(self, row: Row) -> None:
        host = self.here(row.body)
        host.setdefault("Binds", []).append(f"{self.home}/out:/out")
        body = {"Image": IMAGE, "Cmd": self._command(row, "api"), "HostConfig": host, **self.here(row.more)}
        body["Cmd"] = [word.replace("$$", "$") for word in body["Cmd"]]
        try:
            self.client.ask("POST", f"/containers/create?name=api-{row.name}", body)
            self.client.ask("POST", f"/containers/api-{row.name}/start")
        except EngineError as e:
            self.failed[row.name] = str(e)

    def _command(self, row: Row, way: str) -> list[str]:
        file = f"/out/{row.name}-{way}"
        return [
            "sh",
            "-c",
            self.here(f"umask 0; {{ {row.script}; }} > {file}.part; mv {file}.part {file}").replace("$", "$$"),
        ]

    def here(self, tree: Any) -> Any:
        """With the names of this run in it."""
        text = json.dumps(tree).replace("DIR", str(self.home)).replace("NODE", os.uname().nodename)
        for kind in ("cgroup", "ipc", "net", "pid", "user", "uts"):
            text = text.replace(f"HOST/{kind}", os.readlink(f"/proc/self/ns/{kind}"))
        return json.loads(text)

    def _ended(self) -> bool:
        there = self.agent.api("/containers/json?all=1") or []
        wanted = sum(row.spec is not None for row in ROWS)
        services = [c for c in there if "com.docker.compose.service" in c["Labels"]]
        return len(services) == wanted and all(c["State"] == "exited" for c in there if not self._stuck(c))

    def _stuck(self, container: dict[str, Any]) -> bool:
        return container["Names"][0].removeprefix("/api-") in (*self.failed, "/closed")


@pytest.fixture(scope="module")
def both() -> Iterator[Both]:
    with tempfile.TemporaryDirectory(prefix="tu-", dir="/var/tmp") as directory:
        home = Path(directory)
        home.chmod(0o755)
        try:
            with AgentUnderTest(home) as agent:
                found = Both(agent, home)
                found.fill()
                found.run()
                yield found
                agent.api("/containers/closed?force=1", "DELETE")  # it is no project's, so `down` leaves it
        finally:
            subprocess.run(["umount", home / "bind/sub"], check=False)


@pytest.mark.timeout(240 * leaks.SLOW)
def test_from_a_spec(both: Both) -> None:
    rows = [row for row in ROWS if row.spec is not None]
    assert {row.name: both.printed(row.name, "spec") for row in rows} == {
        row.name: both.here(row.answer) for row in rows
    }


def test_over_the_api(both: Both) -> None:
    rows = [row for row in ROWS if row.body is not None]
    assert both.failed == {}
    assert {row.name: both.printed(row.name, "api") for row in rows} == {
        row.name: both.here(row.answer) for row in rows
    }


def test_services_in_each_others_namespaces(both: Both) -> None:
    base = {"image": IMAGE, "command": "sleep 1000", "network_mode": "none", "stop_grace_period": "0s"}
    services = {
        "donor": {**base, "ipc": "shareable"},
        "pid": {**base, "pid": "service:donor"},
        "ipc": {**base, "ipc": "service:donor"},
        "uts": {**base, "uts": "service:donor"},
        "net": {**base, "network_mode": "service:donor"},
    }
    both.write({"name": "joined", "services": services})
    both.agent.until("all five run", lambda: services.keys() <= both.agent.pids().keys(), 60)
    pids = both.agent.pids()
    kinds = ("pid", "ipc", "uts", "net", "user", "mnt")
    inodes = {name: {kind: os.stat(f"/proc/{pids[name]}/ns/{kind}").st_ino for kind in kinds} for name in services}
    for guest in ("pid", "ipc", "uts", "net"):
        shared = {kind for kind in kinds if inodes[guest][kind] == inodes["donor"][kind]}
        assert shared == {guest, "user"}  # one id map, or they could not touch each other's things
    both.take_away("joined")


# ---------------------------------------------------------------- what is refused, and the words for it


class Refusal(NamedTuple):
    """What nobody can carry out; `words` are part of what is said about it, on either way."""

    name: str
    words: str
    spec: dict[str, Any] | None
    body: dict[str, Any] | None


MISSING = {"Mounts": [{"Type": "bind", "Source": "DIR/missing", "Target": "/m"}]}
REFUSALS = (
    Refusal("npipe-spec", "npipe", {"volumes": [{"type": "npipe", "source": "x", "target": "/m"}]}, None),
    Refusal("npipe-api", "mount type unknown", None, {"Mounts": [{"Type": "npipe", "Source": "x", "Target": "/m"}]}),
    Refusal("missing-spec", "DIR/missing", bind(source="DIR/missing", bind={"create_host_path": False}), None),
    Refusal("missing-api", "bind source path does not exist", None, MISSING),
    Refusal("hosts-sysctl", "kernel.panic", {"sysctls": {"kernel.panic": 1}}, {"Sysctls": {"kernel.panic": "1"}}),
    Refusal("net-sysctl", "net.core.somaxconn", {"sysctls": {"net.core.somaxconn": 1}, "network_mode": "host"},
            {"Sysctls": {"net.core.somaxconn": "1"}, "NetworkMode": "host"}),
    Refusal("capability", "FROB", {"cap_add": ["FROB"]}, {"CapAdd": ["FROB"]}),
    Refusal("ulimit", "frobs", {"ulimits": {"frobs": 1}}, {"Ulimits": [{"Name": "frobs", "Soft": 1, "Hard": 1}]}),
    Refusal("security-opt", "frob", *option("frob=1")),
    Refusal("apparmor", "no-such-profile", *option("apparmor=no-such-profile")),
    Refusal("device", "/dev/no-such", {"devices": ["/dev/no-such"]}, {"Devices": [{"PathOnHost": "/dev/no-such"}]}),
    Refusal("no-device", "/etc/hosts", {"devices": ["/etc/hosts:/dev/x"]},
            {"Devices": [{"PathOnHost": "/etc/hosts", "PathInContainer": "/dev/x"}]}),
    Refusal("device-rule", "c ten", {"device_cgroup_rules": ["c ten"]}, {"DeviceCgroupRules": ["c ten"]}),
    Refusal("subpath", "cannot", volume("outer", subpath="../../etc"), api_volume("outer", Subpath="../../etc")),
    Refusal("tmpfs-option", "frob", {"tmpfs": ["/t:frob"]}, {"Tmpfs": {"/t": "frob"}}),
    Refusal("userns", "user namespace", {"privileged": True, "x-trueup": {"userns": "private"}},
            {"Privileged": True, "UsernsMode": "private"}),
    Refusal("oom-score", "2000", {"oom_score_adj": 2000}, {"OomScoreAdj": 2000}),
    Refusal("joined-ipc", "ipc: shareable", {"ipc": "container:closed"}, {"IpcMode": "container:closed"}),
)  # fmt: skip


def test_specs_are_refused(both: Both) -> None:
    rows = [row for row in REFUSALS if row.spec is not None]
    for row in rows:
        service = {"image": IMAGE, "command": "true", "restart": "no", "network_mode": "none"}
        services = {"one": {**service, **both.here(row.spec)}}
        both.write({"name": f"refused-{row.name}", "services": services, "volumes": {"outer": {}}})

    def unsaid() -> list[str]:
        lines = [line for line in both.agent.log.read_text().splitlines() if " ✓ " not in line]
        about = {row.name: [line for line in lines if f"refused-{row.name}" in line] for row in rows}
        return [row.name for row in rows if not any(both.here(row.words) in line for line in about[row.name])]

    both.agent.until("the agent has said why it refuses each", lambda: unsaid() == [], 60)
    assert [c["Names"] for c in both.agent.api("/containers/json") if "refused-" in str(c["Names"])] == []
    both.take_away("refused-")


def test_clients_are_refused(both: Both) -> None:
    said = {}
    for row in REFUSALS:
        if row.body is not None:
            with pytest.raises(EngineError) as refused:
                made = both.client.create("true", network="none", **both.here(row.body))
                both.client.ask("POST", f"/containers/{made}/start")
            said[row.name] = str(refused.value)
    unsaid = {row.name: said[row.name] for row in REFUSALS if row.body and both.here(row.words) not in said[row.name]}
    assert unsaid == {}
    assert [text for text in said.values() if ": 500 " in text] == []
