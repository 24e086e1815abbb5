"""The AppArmor profile of containers: the parser takes it, and where the kernel enforces it, it holds."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from runtime.kernel import apparmor

ENFORCED = pytest.mark.skipif(
    not apparmor.enabled(), reason="this kernel does not enforce AppArmor: scripts/test-vm does"
)


@pytest.mark.skipif(not apparmor.parser(), reason="no apparmor_parser: install apparmor")
def test_the_parser_takes_the_profile() -> None:
    command = [str(apparmor.parser()), "--skip-kernel-load", "--skip-cache", "--names", str(apparmor.PROFILE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [apparmor.DEFAULT]


@pytest.mark.skipif(apparmor.enabled(), reason="this kernel enforces AppArmor")
def test_a_kernel_without_it_is_no_error() -> None:
    assert not apparmor.load_default()


@pytest.mark.privileged
@ENFORCED
def test_it_is_loaded_and_loaded_again() -> None:
    for _ in range(2):
        assert apparmor.load_default()
        loaded = Path("/sys/kernel/security/apparmor/profiles").read_text().splitlines()
        assert f"{apparmor.DEFAULT} (enforce)" in loaded
