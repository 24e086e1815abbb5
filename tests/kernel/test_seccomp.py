"""The seccomp compiler: its BPF against a table, in an interpreter and in the kernel."""

from __future__ import annotations

import ctypes
import json
import os
import socket
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.container import defaults
from runtime.errors import InvalidInput
from runtime.kernel import process, seccomp
from tests.kernel.bpf_machine import Machine

ALLOW, EPERM, ENOSYS, KILL = seccomp.ALLOW, seccomp.ERRNO | 1, seccomp.ERRNO | 38, seccomp.KILL_PROCESS
X86 = seccomp.numbers("x86_64")


def machine(*caps: str, profile: str = "default") -> Machine:
    return Machine(seccomp.compile(profile, frozenset({*defaults.CAPABILITIES, *caps}), arch="x86_64", kernel=(6, 18)))


@pytest.mark.parametrize(
    ("name", "args", "verdict"),
    [
        ("read", (), ALLOW),
        ("execve", (), ALLOW),
        ("chroot", (), ALLOW),
        ("ptrace", (), ALLOW),
        ("mount", (), EPERM),
        ("setns", (), EPERM),
        ("unshare", (), EPERM),
        ("bpf", (), EPERM),
        ("keyctl", (), EPERM),
        ("userfaultfd", (), EPERM),
        ("io_uring_setup", (), EPERM),
        ("pivot_root", (), EPERM),
        ("open_by_handle_at", (), EPERM),
        ("clone3", (), ENOSYS),
        ("clone", (0x11,), ALLOW),
        ("clone", (0x10000000,), EPERM),
        ("clone", (0x20000000 | 0x11,), EPERM),
        ("clone", (1 << 40 | 0x11,), ALLOW),
        ("socket", (socket.AF_UNIX,), ALLOW),
        ("socket", (socket.AF_INET6,), ALLOW),
        ("socket", (1 << 32 | socket.AF_INET,), ALLOW),
        ("socket", (socket.AF_ALG,), EPERM),
        ("socket", (1 << 32 | socket.AF_ALG,), EPERM),
        ("socket", (socket.AF_VSOCK,), EPERM),
        ("socket", (socket.AF_PACKET,), EPERM),
        ("socket", (socket.AF_TIPC,), EPERM),
        ("personality", (0,), ALLOW),
        ("personality", (0xFFFFFFFF,), ALLOW),
        ("personality", (0x0040000,), EPERM),
        ("personality", (7 << 32 | 0x0040000,), EPERM),
    ],
)
def test_the_default_profile_as_a_table(name: str, args: tuple[int, ...], verdict: int) -> None:
    assert machine().run(X86[name], *args) == verdict


def test_capabilities_open_what_they_are_for() -> None:
    assert machine("SYS_ADMIN").run(X86["mount"]) == ALLOW
    assert machine("SYS_ADMIN").run(X86["clone"], 0x10000000) == ALLOW
    assert machine("NET_RAW").run(X86["socket"], socket.AF_PACKET) == ALLOW
    assert machine("SYS_PTRACE").run(X86["kcmp"]) == ALLOW


def test_foreign_architectures_are_killed_and_unknown_numbers_do_not_exist() -> None:
    m = machine()
    assert m.run(X86["read"], arch=0x40000003) == KILL
    assert m.run(0x40000000 | X86["read"]) == ENOSYS
    assert m.run(max(X86.values()) + 100) == ENOSYS
    assert m.run(-1) == ENOSYS


def test_a_profile_that_allows_by_default_allows_what_it_does_not_know() -> None:
    rule = {"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}
    profile = json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]})
    m = Machine(seccomp.compile(profile, frozenset(), arch="x86_64"))
    assert (m.run(X86["mkdir"]), m.run(X86["pipe2"]), m.run(100_000)) == (EPERM, ALLOW, ALLOW)


def test_every_instruction_is_reached() -> None:
    m = machine()
    shapes = [(), (0x11,), (0x10000000,), *((n,) for n in range(41)), (0xFFFFFFFF,), (8,), (0x20000,), (0x20008,)]
    for number in range(600):
        for shape in shapes:
            m.run(number, *shape)
    m.run(0, arch=1)
    assert m.reached == set(range(len(m.code)))


def test_the_way_to_a_verdict_is_short() -> None:
    m = machine()
    for number in range(500):
        m.reached.clear()
        m.run(number)
        assert len(m.reached) < 24


OPERATORS: dict[str, Callable[[int, int, int], bool]] = {
    "SCMP_CMP_EQ": lambda a, v, _: a == v,
    "SCMP_CMP_NE": lambda a, v, _: a != v,
    "SCMP_CMP_GT": lambda a, v, _: a > v,
    "SCMP_CMP_GE": lambda a, v, _: a >= v,
    "SCMP_CMP_LT": lambda a, v, _: a < v,
    "SCMP_CMP_LE": lambda a, v, _: a <= v,
    "SCMP_CMP_MASKED_EQ": lambda a, v, two: a & v == two,
}
words = st.sampled_from([0, 1, 5, 0xFFFFFFFF, 1 << 32, (1 << 32) + 5, (5 << 32) + 1, (1 << 64) - 1]) | st.integers(
    0, (1 << 64) - 1
)


@given(op=st.sampled_from(sorted(OPERATORS)), value=words, two=words, argument=words, index=st.integers(0, 5))
def test_comparisons_of_64_bit_arguments(op: str, value: int, two: int, argument: int, index: int) -> None:
    rule = {"names": ["mmap"], "action": "SCMP_ACT_ALLOW"}
    rule["args"] = [{"index": index, "value": value, "valueTwo": two, "op": op}]  # type: ignore[assignment]
    profile = json.dumps({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [rule]})
    args = [0] * 6
    args[index] = argument
    m = Machine(seccomp.compile(profile, frozenset(), arch="x86_64", kernel=(6, 1)))
    assert (m.run(X86["mmap"], *args) == ALLOW) == OPERATORS[op](argument, value, two)


def test_rules_of_one_name_are_alternatives_and_their_conditions_all_hold() -> None:
    one = {"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}
    two = {"index": 1, "value": 2, "op": "SCMP_CMP_EQ"}
    rules = [
        {"names": ["mmap"], "action": "SCMP_ACT_ALLOW", "args": [one, two]},
        {"names": ["mmap"], "action": "SCMP_ACT_ERRNO", "errnoRet": 7, "args": [{**one, "value": 3}]},
    ]
    m = Machine(
        seccomp.compile(
            json.dumps({"defaultAction": "SCMP_ACT_KILL_PROCESS", "syscalls": rules}), frozenset(), arch="x86_64"
        )
    )
    assert [m.run(X86["mmap"], *a) for a in ((1, 2), (1, 3), (3, 0), (0, 2))] == [ALLOW, KILL, seccomp.ERRNO | 7, KILL]


ALLOWING = '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [%s]}'


@pytest.mark.parametrize(
    ("profile", "words"),
    [
        ("{", "Expecting property name"),
        ("[]", "it has to be an object with a defaultAction"),
        (ALLOWING % "7", "syscalls.0 is not an object"),
        (ALLOWING % '{"names": 7, "action": "SCMP_ACT_LOG"}', "something in it is of the wrong type"),
        ("{}", "a 'defaultAction' is missing"),
        ('{"defaultAction": "NO"}', "unknown action 'NO'"),
        (ALLOWING % "{}", "a 'name' is missing"),
        (ALLOWING % '{"name": "read", "action": "SCMP_ACT_ERRNO", "errnoRet": 4096}', "errno 4096 is not within"),
        (
            ALLOWING % '{"name": "read", "action": "SCMP_ACT_LOG", "args": [{"index": 0, "value": 1, "op": "<"}]}',
            "unknown comparison '<'",
        ),
        ("[" * 100_000, "of the wrong type"),
    ],
)
def test_a_malformed_profile_is_refused(profile: str, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        seccomp.compile(profile, frozenset())


@pytest.mark.privileged
def test_the_kernel_agrees() -> None:
    """In a child: the loaded filter answers as the interpreter does."""
    program = seccomp.compile("default", frozenset(defaults.CAPABILITIES))
    reader, writer = os.pipe()
    if (pid := os.fork()) == 0:
        libc = ctypes.CDLL(None, use_errno=True)
        found = []
        seccomp.load(program)
        for number, first in ((9999, 0), (X86["clone3"], 0), (X86["socket"], 38), (X86["mount"], 0)):
            libc.syscall(number, first, 0, 0, 0, 0)
            found.append(ctypes.get_errno())
        os.write(writer, json.dumps(found).encode())
        os._exit(0)
    os.close(writer)
    os.waitpid(pid, 0)
    assert json.loads(os.read(reader, 4096)) == [38, 38, 1, 1]
    os.close(reader)
    assert process.prctl(39) == 0, "the test's own process has no no_new_privs"
