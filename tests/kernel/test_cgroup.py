"""cgroups: conversions as tables, and a real group's life in whatever layout this machine has."""

from __future__ import annotations

import os
import re
import signal
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from runtime.errors import InvalidInput, Unsupported
from runtime.kernel import cgroup, cgroup_v1, cgroup_v2, procfs
from runtime.kernel.cgroup import Cgroup
from runtime.kernel.cgroup_values import Limits

MIB = 1 << 20

HYBRID = """\
25 1 0:23 / /sys/fs/cgroup rw - tmpfs tmpfs rw
26 25 0:24 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
27 25 0:25 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
28 25 0:26 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd
29 25 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
"""


def test_the_layout_is_read_from_mountinfo() -> None:
    found = cgroup.find_layout(procfs.parse_mountinfo(HYBRID))
    assert found.unified == "/sys/fs/cgroup/unified" and not found.pure
    assert found.v1["cpu"] == found.v1["cpuacct"] == "/sys/fs/cgroup/cpu,cpuacct"
    pure = cgroup.find_layout(procfs.parse_mountinfo("29 25 0:27 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"))
    assert pure.pure
    with pytest.raises(Unsupported):
        cgroup.find_layout([])


@pytest.mark.parametrize(("shares", "weight"), [(2, 1), (1024, 39), (262144, 10000)])
def test_shares_become_weight(shares: int, weight: int) -> None:
    assert cgroup_v2.shares_to_weight(shares) == weight


FULL = Limits(
    memory=64 * MIB, memory_swap=96 * MIB, memory_reservation=32 * MIB, nano_cpus=1_500_000_000, cpu_shares=512,
    cpuset_cpus="0", pids=50, blkio_weight=500, read_bps=(("8:0", 1000),), write_iops=(("8:0", 7),),
    hugetlb=(("2MB", 4 * MIB), ("1GB", -1)),
)  # fmt: skip


def test_limits_in_version_1() -> None:
    assert cgroup_v1.files(FULL) == [
        ("memory", "memory.limit_in_bytes", "67108864"),
        ("memory", "memory.memsw.limit_in_bytes", "100663296"),
        ("memory", "memory.soft_limit_in_bytes", "33554432"),
        ("cpu", "cpu.shares", "512"),
        ("cpu", "cpu.cfs_period_us", "100000"),
        ("cpu", "cpu.cfs_quota_us", "150000"),
        ("cpuset", "cpuset.cpus", "0"),
        ("pids", "pids.max", "50"),
        ("blkio", "blkio.weight", "500"),
        ("blkio", "blkio.throttle.read_bps_device", "8:0 1000"),
        ("blkio", "blkio.throttle.write_iops_device", "8:0 7"),
        ("hugetlb", "hugetlb.2MB.limit_in_bytes", "4194304"),
        ("hugetlb", "hugetlb.1GB.limit_in_bytes", "-1"),
    ]


def test_limits_in_version_2() -> None:
    assert cgroup_v2.files(FULL) == [
        ("memory.max", "67108864"),
        ("memory.swap.max", "33554432"),
        ("memory.low", "33554432"),
        ("cpu.weight", "20"),
        ("cpu.max", "150000 100000"),
        ("cpuset.cpus", "0"),
        ("pids.max", "50"),
        ("io.weight", "default 4950"),
        ("io.max", "8:0 rbps=1000"),
        ("io.max", "8:0 wiops=7"),
        ("hugetlb.2MB.max", "4194304"),
        ("hugetlb.1GB.max", "max"),
    ]


@pytest.mark.parametrize("much", [1 << 22, (1 << 63) - 1])
def test_more_processes_than_can_be_is_no_limit(much: int) -> None:
    assert cgroup_v1.files(Limits(pids=much))[-1] == ("pids", "pids.max", "max")
    assert cgroup_v2.files(Limits(pids=much)) == [("pids.max", "max")]


@pytest.mark.parametrize("much", [Limits(cpu_quota=1 << 44), Limits(nano_cpus=(1 << 63) - 1)])
def test_more_processor_time_than_the_kernel_counts_is_no_limit(much: Limits) -> None:
    assert ("cpu", "cpu.cfs_quota_us", "-1") in cgroup_v1.files(much)
    assert cgroup_v2.files(much) == [("cpu.max", "max 100000")]


def test_swap_in_version_2_is_what_goes_beyond_memory() -> None:
    assert ("memory.swap.max", "67108864") in cgroup_v2.files(Limits(memory=64 * MIB))
    assert ("memory.swap.max", "max") in cgroup_v2.files(Limits(memory=64 * MIB, memory_swap=-1))
    with pytest.raises(InvalidInput):
        cgroup_v2.files(Limits(memory=64 * MIB, memory_swap=MIB))


def test_usage_of_version_2_from_its_files() -> None:
    texts = {
        "cpu.stat": "usage_usec 10\nuser_usec 6\nsystem_usec 4\nnr_throttled 3\n",
        "memory.current": "4096\n",
        "memory.max": "max\n",
        "memory.events": "max 2\noom 1\noom_kill 1\n",
        "pids.current": "3\n",
        "io.stat": "8:0 rbytes=10 wbytes=20 rios=1 wios=2\n8:16 rbytes=5 wbytes=0 rios=1 wios=0\n",
    }
    found = cgroup_v2.usage(lambda name: texts.get(name, ""))
    assert (found.cpu_total, found.cpu_throttled_periods, found.memory_limit) == (10_000, 3, None)
    assert (found.io_read_bytes, found.io_reads, found.oom_kills, found.pids) == (15, 2, 1, 3)


@pytest.fixture
def group(cgroup_parent: str) -> Iterator[Cgroup]:
    found = Cgroup(f"{cgroup_parent.strip('/')}/one")
    yield found
    found.remove()
    Cgroup(cgroup_parent.strip("/")).remove()


def _sleeper(group: Cgroup) -> int:
    pid = os.fork()
    if pid == 0:
        time.sleep(60)
        os._exit(0)
    group.add(pid)
    return pid


def _file(group: Cgroup, *names: str) -> Path:
    """The file of the group that has one of the names."""
    return next(Path(d, name) for d in group.directories().values() for name in names if Path(d, name).exists())


@pytest.mark.privileged
def test_a_group_from_creation_to_removal(group: Cgroup) -> None:
    group.create(Limits(memory=64 * MIB, pids=20, cpu_shares=512))
    pid = _sleeper(group)
    assert group.pids() == [pid]
    usage = group.usage()
    assert (usage.memory_limit, usage.pids_limit, usage.pids) == (64 * MIB, 20, 1)
    group.freeze()
    assert group.frozen()
    group.thaw()
    group.kill()
    assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGKILL
    group.remove()
    assert not group.exists()
    group.remove()


@pytest.mark.privileged
def test_limits_change_on_a_living_group_up_and_down(group: Cgroup) -> None:
    group.create(Limits(memory=64 * MIB, memory_swap=64 * MIB))
    pid = _sleeper(group)
    for memory in (256, 32, 128):
        group.apply(Limits(memory=memory * MIB, memory_swap=memory * MIB, pids=memory))
        assert (group.usage().memory_limit, group.usage().pids_limit) == (memory * MIB, memory)
    most = (1 << 44) - 1, (1 << 22) - 1
    for quota, pids in (most, (most[0] + 1, most[1] + 1)):  # the kernel agrees where we think its bounds are
        group.apply(Limits(cpu_quota=quota, pids=pids))
    group.apply(Limits(pids=-1))
    assert group.usage().pids_limit is None
    group.apply(Limits(cpuset_cpus="0"))
    assert os.sched_getaffinity(pid) == {0}
    with pytest.raises(InvalidInput):
        group.apply(Limits(cpuset_cpus="9999"))
    group.remove()
    os.waitpid(pid, 0)


@pytest.mark.privileged
def test_limits_that_are_taken_back_are_gone(group: Cgroup) -> None:
    sizes = Limits(memory=64 * MIB, memory_reservation=32 * MIB, pids=50)
    before = replace(sizes, nano_cpus=500_000_000, cpu_shares=512, cpuset_cpus="0")
    group.create(Limits())
    pid = _sleeper(group)
    weight = _file(group, "cpu.weight", "cpu.shares")
    usual = weight.read_text()
    group.apply(before)
    assert (group.usage().memory_limit, group.usage().pids_limit) == (64 * MIB, 50) and weight.read_text() != usual
    group.apply(Limits(), before)
    assert weight.read_text() == usual
    assert (group.usage().memory_limit, group.usage().pids_limit) == (None, None)
    assert os.sched_getaffinity(pid) == os.sched_getaffinity(0)
    group.remove()
    os.waitpid(pid, 0)


@pytest.mark.privileged
def test_what_a_container_makes_inside_is_bounded_and_goes(group: Cgroup) -> None:
    group.create(Limits())
    deep = Path(group.directory, *"d" * 64)
    deep.mkdir(parents=True)
    with pytest.raises(BlockingIOError):
        Path(deep, "d").mkdir()
    group.remove()
    assert not Path(group.directory).exists()


def _fill(held: int, cached: int, ready: Path) -> None:
    """Take memory that cannot be given back, and as much page cache as said (bytes); say so and stay."""
    kept = bytearray(b"x") * held
    with tempfile.TemporaryFile(dir="/var/tmp") as file:
        file.write(bytes(cached))
        os.fsync(file.fileno())
        ready.touch()
        signal.pause()
    assert kept


@pytest.mark.privileged
def test_a_limit_below_what_is_in_use_kills_nobody(group: Cgroup, tmp_path: Path) -> None:
    """Page cache makes room for a new limit; what a process holds does not, and the old limit stays."""
    group.create(Limits(memory=96 * MIB, memory_swap=96 * MIB))
    ready = tmp_path / "ready"
    pid = os.fork()
    if pid == 0:
        try:
            group.add(os.getpid())
            _fill(24 * MIB, 32 * MIB, ready)
        finally:
            os._exit(1)
    while not ready.exists():
        time.sleep(0.01)
    group.apply(Limits(memory=48 * MIB, memory_swap=48 * MIB))
    assert group.usage().memory_limit == 48 * MIB
    with pytest.raises(InvalidInput, match="cannot set memory"):
        group.apply(Limits(memory=16 * MIB, memory_swap=16 * MIB))
    assert (group.usage().memory_limit, group.oom_kills(), group.pids()) == (48 * MIB, 0, [pid])
    group.remove()
    os.waitpid(pid, 0)


@pytest.mark.privileged
def test_a_refused_limit_leaves_that_of_swap(group: Cgroup) -> None:
    mount = group.layout.v1.get("memory", "")
    swap = Path(mount, group.path, "memory.memsw.limit_in_bytes")
    group.create(Limits(memory=64 * MIB, memory_swap=64 * MIB))
    if not swap.exists():
        pytest.skip("swap is not counted in version 1 here")
    with pytest.raises(InvalidInput):
        group.apply(Limits(memory=-7))
    assert int(swap.read_text()) == 64 * MIB


@pytest.mark.privileged
def test_huge_pages_are_limited_live(group: Cgroup) -> None:
    sizes = [re.sub(r"hugepages-(\d+)kB", r"\1", name) for name in os.listdir("/sys/kernel/mm/hugepages")]
    if "2048" not in sizes:
        pytest.skip("this kernel has no huge pages of 2 MiB")
    group.create(Limits(hugetlb=(("2MB", 4 * MIB),)))
    pid = _sleeper(group)
    file = _file(group, "hugetlb.2MB.max", "hugetlb.2MB.limit_in_bytes")
    assert int(file.read_text()) == 4 * MIB
    group.apply(Limits(hugetlb=(("2MB", 8 * MIB),)))
    assert int(file.read_text()) == 8 * MIB
    with pytest.raises(Unsupported, match=r"cannot set hugetlb\.3MB"):
        group.apply(Limits(hugetlb=(("3MB", MIB),)))
    group.remove()
    os.waitpid(pid, 0)


@pytest.mark.privileged
def test_removal_ends_what_is_inside(group: Cgroup) -> None:
    group.create(Limits())
    pid = _sleeper(group)
    group.freeze()
    group.remove()
    assert not group.exists()
    os.waitpid(pid, 0)
