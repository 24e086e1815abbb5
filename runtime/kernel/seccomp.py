"""A compiler from a Docker/OCI seccomp profile (JSON) to BPF, without libseccomp.

Rules of ours beside the profile's: the native architecture only (anything else kills); numbers
above the largest that a refusing profile names answer ENOSYS, so that programs fall back; arguments the
kernel takes as 32-bit ints are compared on their low word only, because the kernel ignores the high one.
A balanced tree over number ranges keeps the way to a verdict at some eight comparisons.
"""

from __future__ import annotations

import ctypes
import json
import struct
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from runtime.errors import InvalidInput
from runtime.kernel import bpf
from runtime.kernel.bpf import Program, Step
from runtime.kernel.libc import ARCH, call, version

DEFAULT = "default"
UNCONFINED = "unconfined"
_MAX_ERRNO = 4095  # include/linux/err.h

KILL_PROCESS, TRAP, ERRNO, TRACE, LOG, ALLOW = 0x80000000, 0x30000, 0x50000, 0x7FF00000, 0x7FFC0000, 0x7FFF0000
_ACTIONS = {
    "SCMP_ACT_KILL": 0,
    "SCMP_ACT_KILL_THREAD": 0,
    "SCMP_ACT_KILL_PROCESS": KILL_PROCESS,
    "SCMP_ACT_TRAP": TRAP,
    "SCMP_ACT_ERRNO": ERRNO,
    "SCMP_ACT_TRACE": TRACE,
    "SCMP_ACT_LOG": LOG,
    "SCMP_ACT_ALLOW": ALLOW,
}
_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_GO_ARCH = {"x86_64": "amd64", "aarch64": "arm64"}
ENOSYS = 38

# (syscall, argument) the kernel reads as a 32-bit int; everything else is compared in full.
INT_ARGUMENTS = frozenset(
    (name, index)
    for name, indexes in {
        "socket": (0, 1, 2), "socketpair": (0, 1, 2), "setsockopt": (0, 1, 2), "getsockopt": (0, 1, 2),
        "personality": (0,), "clone": (0,), "ioctl": (0, 1), "fcntl": (0, 1), "prctl": (0,), "setns": (0, 1),
        "open": (1, 2), "openat": (0, 2, 3), "keyctl": (0,), "bpf": (0,), "madvise": (2,), "kill": (0, 1),
        "tgkill": (0, 1, 2), "mknodat": (0, 2, 3), "mknod": (1, 2), "fchmodat": (0, 2), "chmod": (1,), "fchmod": (0, 1),
        "seccomp": (0, 1), "userfaultfd": (0,), "mount_setattr": (0, 2), "open_tree": (0, 2), "unlinkat": (0, 2),
    }.items()
    for index in indexes
)  # fmt: skip

_Body = tuple[Step | str, ...]


@cache
def numbers(arch: str = ARCH) -> Mapping[str, int]:
    """Syscall numbers by name, for x86_64 or aarch64."""
    column = {"x86_64": 1, "aarch64": 2}[arch]
    lines = (Path(__file__).parent / "syscalls.tsv").read_text().splitlines()[1:]
    fields = (line.split("\t") for line in lines)
    return {f[0]: int(f[column]) for f in fields if len(f) > column and f[column]}


@cache
def default_profile() -> str:
    """The text of the default profile."""
    return (Path(__file__).parent / "seccomp-default.json").read_text()


@lru_cache(maxsize=64)
def compile(
    profile: str, capabilities: frozenset[str], *, arch: str = ARCH, kernel: tuple[int, int] | None = None
) -> bytes:
    """The filter for `profile` (JSON text or "default") under these capabilities (names without CAP_).

    Raises InvalidInput when the profile is malformed.
    """
    try:
        tree = json.loads(default_profile() if profile == DEFAULT else profile)
        return bpf.pack(_program(tree, capabilities, arch, kernel or version()))
    except KeyError as e:
        raise InvalidInput(f"cannot use the seccomp profile: a {e.args[0]!r} is missing") from e
    except ValueError as e:
        raise InvalidInput(f"cannot use the seccomp profile: {e}") from e
    except (TypeError, AttributeError, RecursionError) as e:
        raise InvalidInput("cannot use the seccomp profile: something in it is of the wrong type") from e


def load(program: bytes) -> None:
    """Put a filter on the calling thread for good; needs no_new_privs or CAP_SYS_ADMIN."""
    code = ctypes.create_string_buffer(program, len(program))
    fprog = struct.pack("HxxxxxxQ", len(program) // 8, ctypes.addressof(code))
    call("seccomp", 1, 0, fprog)


# ---------------------------------------------------------------- the compiler


def _program(profile: Mapping[str, Any], caps: frozenset[str], arch: str, kernel: tuple[int, int]) -> Program:
    if not isinstance(profile, Mapping):
        raise ValueError("it has to be an object with a defaultAction")
    table = numbers(arch)
    rules: dict[int, list[tuple[str, Mapping[str, Any]]]] = {}
    largest = 0
    for index, rule in enumerate(profile.get("syscalls") or ()):
        if not isinstance(rule, Mapping):
            raise ValueError(f"syscalls.{index} is not an object")
        names = rule.get("names") or [rule["name"]]
        largest = max([largest, *(table[name] for name in names if name in table)])
        if _applies(rule, caps, arch, kernel):
            for name in names:
                if name in table:
                    rules.setdefault(table[name], []).append((name, rule))
    default = _action(profile["defaultAction"], profile.get("defaultErrnoRet"))
    bodies = {number: _body(found, default) for number, found in rules.items()}
    bodies[largest + 1] = (Step(bpf.RET_K, default if default in (ALLOW, LOG) else ERRNO | ENOSYS),)
    tree = _tree(_segments(bodies, (Step(bpf.RET_K, default),)))
    return (
        bpf.load(4),
        bpf.Instruction(bpf.JMP_JEQ, _AUDIT_ARCH[arch], 1, 0),
        bpf.ret(KILL_PROCESS),
        bpf.load(0),
        *tree,
    )


def _applies(rule: Mapping[str, Any], caps: frozenset[str], arch: str, kernel: tuple[int, int]) -> bool:
    includes, excludes = rule.get("includes") or {}, rule.get("excludes") or {}
    name = _GO_ARCH[arch]

    def has(names: Sequence[str]) -> list[bool]:
        return [n.removeprefix("CAP_") in caps for n in names]

    if includes.get("arches") and name not in includes["arches"]:
        return False
    if includes.get("caps") and not all(has(includes["caps"])):
        return False
    if includes.get("minKernel") and kernel < _version(includes["minKernel"]):
        return False
    if name in (excludes.get("arches") or ()) or any(has(excludes.get("caps") or ())):
        return False
    return not (excludes.get("minKernel") and kernel >= _version(excludes["minKernel"]))


def _version(text: str) -> tuple[int, int]:
    major, _, minor = text.partition(".")
    return int(major), int(minor)


def _action(name: str, errno: int | None) -> int:
    if name not in _ACTIONS:
        raise ValueError(f"unknown action {name!r}")
    if errno is not None and not 0 <= errno <= _MAX_ERRNO:
        raise ValueError(f"errno {errno} is not within 0 and {_MAX_ERRNO}")
    action = _ACTIONS[name]
    return action | (1 if errno is None else errno) if action in (ERRNO, TRACE) else action


def _body(rules: Sequence[tuple[str, Mapping[str, Any]]], default: int) -> _Body:
    """Rules with conditions in order, then the one without, else the default."""
    steps: list[Step | str] = []
    last = default
    for i, (name, rule) in enumerate(rules):
        verdict = _action(rule["action"], rule.get("errnoRet"))
        if not rule.get("args"):
            last = verdict
            continue
        fail = f"rule{i}"
        for j, arg in enumerate(rule["args"]):
            steps += _condition(name, arg, fail, f"{fail}.{j}")
        steps += [Step(bpf.RET_K, verdict), fail]
    return (*steps, Step(bpf.RET_K, last))


def _condition(name: str, arg: Mapping[str, Any], fail: str, done: str) -> list[Step | str]:
    """Steps that go to `fail` unless the argument compares as asked."""
    index, value, op = arg["index"], arg["value"] & (1 << 64) - 1, arg["op"]
    if not 0 <= index <= 5:
        raise ValueError(f"argument index {index}")
    low, high = 16 + 8 * index, 20 + 8 * index
    narrow = (name, index) in INT_ARGUMENTS
    if op == "SCMP_CMP_MASKED_EQ":
        wanted = arg.get("valueTwo", 0)
        words = [(low, value & 0xFFFFFFFF, wanted & 0xFFFFFFFF)]
        words += [] if narrow else [(high, value >> 32, wanted >> 32)]
        return [
            step
            for at, mask, want in words
            for step in (Step(bpf.LD_W_ABS, at), Step(bpf.ALU_AND, mask), Step(bpf.JMP_JEQ, want, bpf.NEXT, fail))
        ]
    lo, hi = value & 0xFFFFFFFF, value >> 32
    if op not in _COMPARE:
        raise ValueError(f"unknown comparison {op!r}")
    code, wanted_true = _COMPARE[op]
    yes, no = (bpf.NEXT, fail) if wanted_true else (fail, bpf.NEXT)
    compare_low = [Step(bpf.LD_W_ABS, low), Step(code, lo, yes, no)]
    if narrow:
        return [*compare_low]
    if code == bpf.JMP_JEQ:
        differ = fail if wanted_true else done
        return [Step(bpf.LD_W_ABS, high), Step(bpf.JMP_JEQ, hi, bpf.NEXT, differ), *compare_low, done]
    above, below = (done, fail) if wanted_true else (fail, done)
    return [
        Step(bpf.LD_W_ABS, high),
        Step(bpf.JMP_JGT, hi, above, bpf.NEXT),
        Step(bpf.JMP_JEQ, hi, bpf.NEXT, below),
        *compare_low,
        done,
    ]


# comparison -> (jump, whether taking it means the condition holds)
_COMPARE = {
    "SCMP_CMP_EQ": (bpf.JMP_JEQ, True),
    "SCMP_CMP_NE": (bpf.JMP_JEQ, False),
    "SCMP_CMP_GT": (bpf.JMP_JGT, True),
    "SCMP_CMP_LE": (bpf.JMP_JGT, False),
    "SCMP_CMP_GE": (bpf.JMP_JGE, True),
    "SCMP_CMP_LT": (bpf.JMP_JGE, False),
}


def _segments(bodies: Mapping[int, _Body], default: _Body) -> list[tuple[int, _Body]]:
    """Ranges of numbers with one body each, as (first number, body), from 0 on."""
    last = max(bodies)
    found: list[tuple[int, _Body]] = []
    for number in range(last + 1):
        body = bodies.get(number, default)
        if not found or found[-1][1] != body:
            found.append((number, body))
    return found


def _tree(segments: Sequence[tuple[int, _Body]]) -> Program:
    if len(segments) == 1:
        return bpf.assemble(list(segments[0][1]))
    middle = len(segments) // 2
    return bpf.branch(segments[middle][0], _tree(segments[:middle]), _tree(segments[middle:]))
