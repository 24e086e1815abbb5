"""Overlays whose layers' owners are shifted, made as this kernel may and as the oldest one must."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from runtime.container import overlay as subject
from runtime.kernel import mount, namespace, process
from runtime.kernel.libc import version

BASE = 1_000_000


@pytest.fixture(params=["this kernel", "before 6.15"])
def _kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param != "this kernel":
        monkeypatch.setattr(subject, "version", lambda: min(version(), (6, 14)))


@contextmanager
def user_namespace() -> Iterator[int]:
    """One with an own range of ids; it lives as long as it is held."""
    read, write = os.pipe()
    pid, _ = process.clone3(namespace.CLONE_NEWUSER)
    if pid == 0:
        os.close(write)
        os.read(read, 1)
        os._exit(0)
    try:
        for name in ("uid_map", "gid_map"):
            Path(f"/proc/{pid}/{name}").write_text(f"0 {BASE} 65536")
        fd = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY)
        yield fd
        os.close(fd)
    finally:
        os.close(write)
        os.close(read)
        os.waitpid(pid, 0)


def layers(scratch: Path) -> tuple[str, ...]:
    for name in ("low", "high", "upper", "work"):
        (scratch / name).mkdir()
    (scratch / "low/etc").mkdir()
    (scratch / "low/etc/a").write_text("below")
    (scratch / "high/b").write_text("above")
    return str(scratch / "high"), str(scratch / "low")


def in_a_process(check: Callable[[], None]) -> None:
    """Namespaces are changed in processes of one thread only."""
    pid = os.fork()
    if pid == 0:
        try:
            check()
            os._exit(0)
        except BaseException:
            import traceback

            traceback.print_exc()
            os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0


@pytest.mark.privileged
@pytest.mark.usefixtures("_kernel")
def test_owners_are_shifted_and_our_mounts_stay(scratch: Path) -> None:
    lower = layers(scratch)

    def check() -> None:
        before = (os.stat("/proc/self/ns/mnt").st_ino, Path("/proc/self/mountinfo").read_text())
        with user_namespace() as userns:
            root = subject.overlay(lower, userns, str(scratch / "upper"), str(scratch / "work"))
        assert os.stat("etc/a", dir_fd=root).st_uid == os.stat("b", dir_fd=root).st_uid == BASE
        assert os.stat(scratch / "low/etc/a").st_uid == 0
        assert before == (os.stat("/proc/self/ns/mnt").st_ino, Path("/proc/self/mountinfo").read_text())

    in_a_process(check)


@pytest.mark.privileged
@pytest.mark.usefixtures("_kernel")
@pytest.mark.parametrize("mapped", [True, False])
def test_a_part_of_one(scratch: Path, mapped: bool) -> None:
    lower = layers(scratch)

    def check() -> None:
        with user_namespace() as userns:
            part = subject.overlay(lower, userns if mapped else -1, subpath="/etc")
        assert os.stat("a", dir_fd=part).st_uid == (BASE if mapped else 0)
        namespace.unshare(namespace.CLONE_NEWNS)
        os.system("mount --make-rprivate /")
        mount.move_mount(part, os.open(scratch / "upper", os.O_PATH))  # it is a mount of its own
        assert os.listdir(scratch / "upper") == ["a"]

    in_a_process(check)
