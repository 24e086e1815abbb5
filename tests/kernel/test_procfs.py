"""Parsers of /proc, on text that is made to trip them."""

from __future__ import annotations

import os

from hypothesis import given
from hypothesis import strategies as st

from runtime.kernel import procfs

STAT = "{pid} ({comm}) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4242 20"


@given(st.text(max_size=15).filter(lambda s: "\n" not in s))
def test_a_name_may_hold_anything(comm: str) -> None:
    found = procfs.parse_stat(STAT.format(pid=7, comm=comm))
    assert (found.comm, found.state, found.ppid, found.start_time) == (comm, "S", 1, 4242)


def test_our_own_stat() -> None:
    assert procfs.stat(os.getpid()).ppid == os.getppid()


def test_mount_points_with_blanks() -> None:
    line = r"36 35 98:0 /a\040b /mnt\011x rw,noatime master:1 shared:2 - ext3 /dev/root rw,errors=continue"
    (mount,) = procfs.parse_mountinfo(line)
    assert (mount.root, mount.target, mount.propagation) == ("/a b", "/mnt\tx", ("master:1", "shared:2"))


def test_flat_keyed_leaves_out_what_is_no_number() -> None:
    assert procfs.flat_keyed("anon 12\nfile max\nbad\nx 1 2\n") == {"anon": 12}
