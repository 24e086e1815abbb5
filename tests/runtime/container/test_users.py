"""User lookup against friendly and hostile passwd and group files."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.container import users
from runtime.errors import InvalidInput

PASSWD = """\
root:x:0:0:root:/root:/bin/sh
# a comment
user:x:1000:1000::/home:/bin/sh
1001:x:7:8::/odd:/bin/sh
broken:x
big:x:4294967296:0::/:/bin/sh
minus:x:-1:0::/:/bin/sh
"""
GROUP = "root:x:0:\nusers:x:1000:\nextra:x:2000:user,other\nmore:x:2001:other,user\nhuge:x:99999999999:\n"


@pytest.mark.parametrize(
    ("spec", "extra", "ids", "groups", "home"),
    [
        ("", (), (0, 0), (0,), "/root"),
        ("root", (), (0, 0), (0,), "/root"),
        ("user", (), (1000, 1000), (1000, 2000, 2001), "/home"),
        ("1000", (), (1000, 1000), (1000, 2000, 2001), "/home"),
        ("user:extra", (), (1000, 2000), (2000,), "/home"),
        ("user:5", ("extra", "77"), (1000, 5), (5, 2000, 77), "/home"),
        ("1001", (), (7, 8), (8,), "/odd"),
        ("4242", (), (4242, 0), (0,), "/"),
        ("4242:4343", (), (4242, 4343), (4343,), "/"),
        ("2147483647", (), (2147483647, 0), (0,), "/"),
    ],
)
def test_who_it_is(spec: str, extra: tuple[str, ...], ids: tuple[int, int], groups: tuple[int, ...], home: str) -> None:
    found = users.lookup(spec, extra, PASSWD, GROUP)
    assert ((found.uid, found.gid), found.groups, found.home) == (ids, groups, home)


@pytest.mark.parametrize(
    "spec",
    [
        "nobody",
        "user:nogroup",
        "-1",
        "0:-1",
        "2147483648",
        "4294967296",
        "99999999999999999999",
        "big",
        "minus",
        "²",
        "0:huge",
        "+1",
    ],
)
def test_what_is_refused(spec: str) -> None:
    with pytest.raises(InvalidInput):
        users.lookup(spec, (), PASSWD, GROUP)


@given(st.text(), st.text(), st.text())
def test_any_text_gives_a_user_or_a_clear_refusal(spec: str, passwd: str, group: str) -> None:
    try:
        found = users.lookup(spec, (), passwd, group)
    except InvalidInput:
        return
    assert 0 <= found.uid <= users.LARGEST_ID and 0 <= found.gid <= users.LARGEST_ID


def fifo(path: Path) -> None:
    os.mkfifo(path)


def zero(path: Path) -> None:
    path.symlink_to("/dev/zero")


def large(path: Path) -> None:
    with path.open("wb") as f:
        f.truncate(1 << 34)


def outside(path: Path) -> None:
    path.symlink_to("/../../../../etc/passwd")


def directory(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize(
    ("make", "refused"), [(fifo, True), (large, True), (directory, True), (zero, False), (outside, False)]
)
def test_hostile_files(tmp_path: Path, make: Callable[[Path], None], refused: bool) -> None:
    (tmp_path / "etc").mkdir()
    make(tmp_path / "etc/passwd")
    root = os.open(tmp_path, os.O_PATH)
    try:
        if refused:
            with pytest.raises(InvalidInput):
                users.read(root, "/etc/passwd")
        else:  # a link is followed inside the root only, where there is nothing
            assert users.read(root, "/etc/passwd") == ""
    finally:
        os.close(root)
