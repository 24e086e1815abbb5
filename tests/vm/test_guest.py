"""The guest is what production has: else the privileged tests in it would prove nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from runtime.kernel import cgroup

GUEST = os.environ.get("TU_TEST_VM", "")
pytestmark = [pytest.mark.privileged, pytest.mark.skipif(not GUEST, reason="not in scripts/test-vm's guest")]


def test_its_kernel_is_debians() -> None:
    assert os.uname().release == GUEST and "-amd64" in GUEST


def test_version_2_alone_has_the_controllers() -> None:
    assert cgroup.layout().pure
    assert {"cpu", "cpuset", "io", "memory", "pids"} <= set(
        Path("/sys/fs/cgroup/cgroup.controllers").read_text().split()
    )


def test_apparmor_is_on() -> None:
    assert "apparmor" in Path("/sys/kernel/security/lsm").read_text().split(",")
    assert Path("/sys/module/apparmor/parameters/enabled").read_text() == "Y\n"
    assert Path("/proc/self/attr/apparmor/current").read_text().strip() == "unconfined"
