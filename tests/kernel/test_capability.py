"""Capability names and masks; the calling thread's own sets."""

from __future__ import annotations

import os

import pytest

from runtime.container import defaults
from runtime.kernel import capability


def test_names_come_with_and_without_prefix() -> None:
    assert capability.mask(["CAP_CHOWN", "net_raw"]) == 1 | 1 << 13
    assert capability.names(1 | 1 << 13) == ("CHOWN", "NET_RAW")
    with pytest.raises(KeyError):
        capability.mask(["NOPE"])


def test_the_default_set_is_podmans_eleven() -> None:
    assert f"{capability.mask(defaults.CAPABILITIES):x}" == "800405fb"


@pytest.mark.privileged
def test_sets_are_what_was_set() -> None:
    keep = capability.mask(["CHOWN", "SETPCAP"])
    pid = os.fork()
    if pid == 0:
        capability.drop_bounding(keep)
        capability.set(keep, keep)
        with open("/proc/self/status") as f:
            bounding = next(line for line in f if line.startswith("CapBnd"))
        os._exit(0 if capability.get() == (keep, keep, 0) and int(bounding.split()[1], 16) == keep else 1)
    assert os.waitpid(pid, 0)[1] == 0
