"""What a container sees of itself, and what it does not see of the host."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.harness import IMAGE, AgentUnderTest

pytestmark = pytest.mark.privileged


@pytest.fixture
def agent(scratch: Path) -> Iterator[AgentUnderTest]:
    """One agent with one service that waits."""
    with AgentUnderTest(scratch) as running:
        fields = f'image: "{IMAGE}", hostname: boxhost, command: [sleep, "86421"], stop_signal: SIGKILL'
        (running.specs / "app.yaml").write_text(f"services:\n  box: {{{fields}}}\n")
        running.running("box")
        yield running


def test_its_own_view(agent: AgentUnderTest) -> None:
    def inside(*command: str) -> str:
        return agent.trueup("exec", "box", *command)

    processes = inside("ps", "-o", "pid,args").splitlines()[1:]
    assert any(line.split(None, 1) == ["1", "sleep 86421"] for line in processes), processes
    assert len(processes) == 2, "only its own command and this ps"
    assert inside("hostname").strip() == "boxhost"
    mounts = [line.split() for line in inside("cat", "/proc/self/mounts").splitlines()]
    assert next(m for m in mounts if m[1] == "/")[2] == "overlay"
    assert not any(str(agent.home) in m[1] for m in mounts)
    assert {m[2] for m in mounts} <= {
        "overlay", "proc", "tmpfs", "devpts", "sysfs", "mqueue", "cgroup", "cgroup2", "ext4", "xfs", "btrfs",
    }  # fmt: skip
    assert sorted(inside("ls", "/sys/class/net").split()) == ["eth0", "lo"]
    assert inside("ls", "/").split() == [
        "bin", "dev", "etc", "home", "proc", "root", "run", "sys", "tmp", "usr", "var", "www",
    ]  # fmt: skip


def test_every_namespace_is_its_own_and_its_root_is_not_ours(agent: AgentUnderTest) -> None:
    pid = agent.pids()["box"]
    for kind in ("pid", "mnt", "net", "uts", "ipc", "cgroup", "user"):
        assert os.readlink(f"/proc/{pid}/ns/{kind}") != os.readlink(f"/proc/self/ns/{kind}"), kind
    assert os.stat(f"/proc/{pid}").st_uid >= 524_288


def test_a_write_leaves_the_image_as_it_was(agent: AgentUnderTest) -> None:
    layers = agent.home / "data/layers"
    before = {p: p.lstat().st_mtime_ns for p in layers.rglob("*")}
    agent.trueup("exec", "box", "sh", "-c", "echo changed > /www/index.html; rm /bin/vi; mkdir /new")
    assert {p: p.lstat().st_mtime_ns for p in layers.rglob("*")} == before
    pid = agent.pids()["box"]
    assert Path(f"/proc/{pid}/root/www/index.html").read_text() == "changed\n"


def test_what_is_root_inside_can_do_nothing_to_the_host(agent: AgentUnderTest) -> None:
    said = agent.trueup(
        "exec", "box", "sh", "-c",
        "mount -t tmpfs x /tmp; echo 1 > /proc/sys/kernel/panic; mknod /dev/sda b 8 0; echo b > /proc/sysrq-trigger; "
        "echo 1 > /sys/fs/cgroup/memory/memory.limit_in_bytes; chroot / true; hostname changed; true",
    )  # fmt: skip
    assert said.count("not permitted") + said.count("ermission denied") + said.count("Read-only") >= 5, said
    assert os.uname().nodename != "changed"
