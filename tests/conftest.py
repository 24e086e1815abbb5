"""Fixtures everybody shares: who may run what, own data roots, and the check that nothing leaks.

`TU_TEST_REQUIRE=privileged,peer` turns the skips of a machine that cannot run the privileged tests, or lacks the
programs of others that some need, into failures; without it they are listed with their reason.
`TU_TEST_SLOW=N` says that this machine is N times slower than the limits and patience of the tests suppose, as an
emulated one is.
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from tests import leaks

# A shell ignores these in what it runs in the background, and so would every program that a test starts.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGQUIT, signal.SIG_DFL)

# no test asserts how long something takes
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")


def _why_not_privileged() -> str:
    if os.geteuid() != 0:
        return "not root"
    effective = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("CapEff"))
    if not int(effective.split()[1], 16) >> 21 & 1:
        return "no CAP_SYS_ADMIN"
    if "overlay" not in Path("/proc/filesystems").read_text():
        return "the kernel has no overlay file system"
    if _file_system("/var/tmp") == "overlay":
        return "/var/tmp is itself on an overlay: inside another container"
    return ""


def _file_system(path: str) -> str:
    """The type of the file system that an existing path is on."""
    best, kind = "", ""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split()
        target = fields[4]
        if len(target) >= len(best) and (path + "/").startswith(target.rstrip("/") + "/"):
            best, kind = target, fields[fields.index("-") + 1]
    return kind


PEERS = ("docker-compose", "docker-registry", "dockerd", "firewalld", "prometheus", "promtool", "skopeo", "umoci")
"""Programs of others that tests run against; a test without its peer is skipped, or fails where it is required."""

UNPRIVILEGED = _why_not_privileged()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip what this machine cannot run, or fail it where the run demands everything; stretch time limits."""
    for item in items if leaks.SLOW > 1 else ():
        own = item.get_closest_marker("timeout")
        limit = float(own.args[0] if own else config.getini("timeout"))
        item.add_marker(pytest.mark.timeout(limit * leaks.SLOW), append=False)
    required = os.environ.get("TU_TEST_REQUIRE", "").split(",")
    demanded = "privileged" in required
    if "peer" in required and (missing := [name for name in PEERS if not shutil.which(name)]):
        raise pytest.UsageError(f"the tests against peers are required here, but these are missing: {missing}")
    for item in items:
        if UNPRIVILEGED and item.get_closest_marker("privileged"):
            if demanded:
                raise pytest.UsageError(f"the privileged tests are required here, but: {UNPRIVILEGED}")
            item.add_marker(pytest.mark.skip(reason=f"privileged: {UNPRIVILEGED}"))


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A short directory on a disk (unix sockets have 108 bytes, overlay wants no tmpfs upper)."""
    path = Path(tempfile.mkdtemp(prefix="tu-", dir="/var/tmp"))
    yield path
    left = leaks.end_survivors(path)
    shutil.rmtree(path, ignore_errors=True)
    assert not left, "left behind, and killed:\n" + "\n".join(left)


@pytest.fixture
def cgroup_parent(request: pytest.FixtureRequest) -> str:
    """A cgroup parent of this test's own, such as "/trueup-test/run1234-17"."""
    return f"/trueup-test-{leaks.MARK}-{abs(hash(request.node.nodeid)) % 100_000}"


@pytest.fixture(autouse=True)
def _nothing_leaks(request: pytest.FixtureRequest) -> Iterator[None]:
    """After every privileged test the host looks as before."""
    if not request.node.get_closest_marker("privileged") or UNPRIVILEGED:
        yield
        return
    before = leaks.look()
    yield
    left = leaks.leaked(before)
    assert not left, "left behind:\n" + "\n".join(left)


@pytest.fixture(scope="session")
def busybox() -> Path:
    """The host's static busybox."""
    for path in ("/bin/busybox", "/usr/bin/busybox"):
        if Path(path).exists():
            return Path(path)
    pytest.skip("no busybox: install busybox-static")


@pytest.fixture(scope="session")
def rootfs(busybox: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root file system of busybox alone; tests use it as a lower layer and never write to it."""
    root = Path(tempfile.mkdtemp(prefix="tu-rootfs-", dir="/var/tmp"))
    for directory in (
        "bin",
        "sbin",
        "usr/bin",
        "usr/sbin",
        "etc",
        "root",
        "tmp",
        "var",
        "home",
        "proc",
        "sys",
        "dev",
    ):
        (root / directory).mkdir(parents=True, exist_ok=True)
    shutil.copy(busybox, root / "bin/busybox")
    applets = os.popen(f"{busybox} --list").read().split()
    for applet in applets:
        if applet != "busybox":
            (root / "bin" / applet).symlink_to("busybox")
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\nusers:x:1000:\nextra:x:2000:user\n")
    (root / "tmp").chmod(0o1777)
    os.chmod(root, 0o755)
    import atexit

    atexit.register(shutil.rmtree, root, ignore_errors=True)
    return root
