"""Device rules: the generated eBPF in an interpreter, and as the kernel applies it."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.errors import InvalidInput
from runtime.kernel import devices
from runtime.kernel.cgroup import Cgroup
from runtime.kernel.cgroup_values import Limits
from runtime.kernel.devices import Rule

ACCESS = {"m": 1, "r": 2, "w": 4}


def verdict(program: bytes, kind: int, access: int, major: int, minor: int) -> int:
    """Run the subset of eBPF that the compiler emits."""
    code = [struct.unpack_from("BBhi", program, i) for i in range(0, len(program), 8)]
    context = {0: access << 16 | kind, 4: major, 8: minor}
    r = [0] * 10
    at = 0
    while True:
        op, registers, offset, immediate = code[at]
        target, source = registers & 15, registers >> 4
        at += 1
        if op == 0x61:
            r[target] = context[offset]
        elif op == 0xBC:
            r[target] = r[source]
        elif op == 0x74:
            r[target] >>= immediate
        elif op == 0x54:
            r[target] &= immediate
        elif op == 0x55:
            at += offset if r[target] != immediate else 0
        elif op == 0x5D:
            at += offset if r[target] != r[source] else 0
        elif op == 0xB7:
            r[target] = immediate
        elif op == 0x95:
            return r[0]
        else:
            raise AssertionError(f"{op:#x}")


numbers = st.none() | st.integers(0, 3)
rules = st.builds(Rule, st.sampled_from("abc"), numbers, numbers, st.sampled_from(["r", "w", "m", "rw", "rwm", "wm"]))


@given(st.lists(rules, max_size=4), st.sampled_from([1, 2]), st.integers(1, 7), st.integers(0, 3), st.integers(0, 3))
def test_allowed_is_what_one_rule_allows(some: list[Rule], kind: int, access: int, major: int, minor: int) -> None:
    def allows(rule: Rule) -> bool:
        return (
            rule.kind in ("a", "bc"[kind - 1])
            and not access & ~sum(ACCESS[letter] for letter in rule.access)
            and rule.major in (None, major)
            and rule.minor in (None, minor)
        )

    assert verdict(devices.compile(some), kind, access, major, minor) == any(map(allows, some))


@pytest.mark.parametrize("text", ["", "c 1:3", "x 1:3 r", "c 1:3 q", "c -1:3 r", "c 1:3 r\nc 2:2 r"])
def test_malformed_rules_are_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        Rule.parse(text)


@pytest.fixture
def group(cgroup_parent: str) -> Iterator[Cgroup]:
    found = Cgroup(f"{cgroup_parent.strip('/')}/devices")
    found.create(Limits())
    yield found
    found.remove()
    Cgroup(cgroup_parent.strip("/")).remove()


@pytest.mark.privileged
def test_the_kernel_applies_them(group: Cgroup) -> None:
    program = devices.load(devices.compile([Rule.parse("c 1:3 rw"), Rule.parse("c 1:5 r"), Rule.parse("b *:* m")]))
    directory = os.open(group.directory, os.O_RDONLY)
    devices.attach(directory, program)
    os.close(program)
    os.close(directory)
    reader, writer = os.pipe()
    if (pid := os.fork()) == 0:
        try:
            os.write(writer, _try_devices(group))
        except BaseException as e:
            os.write(writer, repr(e).encode())
        finally:
            os._exit(0)
    os.close(writer)
    os.waitpid(pid, 0)
    assert os.read(reader, 999) == b"yynn"
    os.close(reader)


def _try_devices(group: Cgroup) -> bytes:
    group.add(os.getpid())
    found = b""
    for path, flags in (("/dev/null", 2), ("/dev/zero", 0), ("/dev/zero", 2), ("/dev/full", 0)):
        try:
            os.close(os.open(path, flags))
            found += b"y"
        except PermissionError:
            found += b"n"
    return found
