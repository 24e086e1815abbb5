"""Which devices a cgroup may use: rules compiled to a BPF program on its version-2 directory.

The kernel asks the program for every open and mknod of a device node (BPF_PROG_TYPE_CGROUP_DEVICE).
It works in the hybrid layout as well, whose version-2 hierarchy is there but has no controllers, so
the list files of version 1 are not needed. What no rule allows is denied.
"""

from __future__ import annotations

import ctypes
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from runtime.errors import InvalidInput
from runtime.kernel.libc import call

_BLOCK, _CHARACTER = 1, 2
_ACCESS = {"m": 1, "r": 2, "w": 4}
_RULE = re.compile(r"([abc]) +(\d+|\*):(\d+|\*) +([rwm]+)")

_PROG_LOAD, _PROG_ATTACH = 5, 8
_TYPE_CGROUP_DEVICE, _ATTACH_DEVICE, _ALLOW_MULTI = 15, 6, 2


@dataclass(frozen=True, slots=True)
class Rule:
    """One permission: `kind` "a", "b" or "c"; None is any number; `access` out of rwm."""

    kind: str
    major: int | None
    minor: int | None
    access: str

    @classmethod
    def parse(cls, text: str) -> Rule:
        """Read "c 1:3 rwm", "b *:* r" or "a". Raises InvalidInput."""
        if text.strip() == "a":
            return cls("a", None, None, "rwm")
        match = _RULE.fullmatch(text.strip())
        if not match:
            raise InvalidInput(f"cannot use device rule {text!r}", hint='write it as "c 10:200 rwm"')
        major, minor = (None if n == "*" else int(n) for n in match.group(2, 3))
        return cls(match[1], major, minor, match[4])


def compile(rules: Sequence[Rule]) -> bytes:
    """The eBPF program that allows what any of the rules allows."""
    code = [
        _instruction(0x61, 2, 1),  # r2 = access << 16 | kind
        _instruction(0xBC, 3, 2),  # r3 = r2
        _instruction(0x74, 3, immediate=16),  # r3 >>= 16: the access
        _instruction(0x54, 2, immediate=0xFFFF),  # r2 &= 0xffff: the kind
        _instruction(0x61, 4, 1, 4),  # r4 = major
        _instruction(0x61, 5, 1, 8),  # r5 = minor
    ]
    for rule in rules:
        checks = _checks(rule)
        code += [*checks, *_return(1)]
        if not checks:  # everything is allowed; the verifier refuses what cannot be reached
            return b"".join(code)
    return b"".join([*code, *_return(0)])


def _checks(rule: Rule) -> list[bytes]:
    """Instructions that jump behind the rule's verdict unless it matches."""
    wanted: list[tuple[int, int, int, int]] = []  # code, register, other register, immediate
    before: list[bytes] = []
    if rule.kind != "a":
        wanted.append((0x55, 2, 0, _BLOCK if rule.kind == "b" else _CHARACTER))
    if (access := sum(_ACCESS[letter] for letter in set(rule.access))) != 7:
        before = [_instruction(0xBC, 1, 3), _instruction(0x54, 1, immediate=access)]  # r1 = asked & allowed
        wanted.append((0x5D, 1, 3, 0))
    if rule.major is not None:
        wanted.append((0x55, 4, 0, rule.major))
    if rule.minor is not None:
        wanted.append((0x55, 5, 0, rule.minor))
    left = len(wanted)
    jumps = [_instruction(c, r, other, left - 1 - i + 2, imm) for i, (c, r, other, imm) in enumerate(wanted)]
    return before + jumps


def _return(value: int) -> list[bytes]:
    return [_instruction(0xB7, 0, immediate=value), _instruction(0x95)]


def _instruction(code: int, target: int = 0, source: int = 0, offset: int = 0, immediate: int = 0) -> bytes:
    return struct.pack("BBhi", code, target | source << 4, offset, immediate)


def load(program: bytes) -> int:
    """Hand a program to the kernel, which checks and translates it; its descriptor. It may serve many groups."""
    code = ctypes.create_string_buffer(program, len(program))
    licence = ctypes.create_string_buffer(b"Apache-2.0")
    request = struct.pack(
        "IIQQIIQII",
        _TYPE_CGROUP_DEVICE, len(program) // 8, ctypes.addressof(code), ctypes.addressof(licence), 0, 0, 0, 0, 0,
    )  # fmt: skip
    return call("bpf", _PROG_LOAD, request, len(request), path="device rules")


def attach(directory: int, program: int) -> None:
    """Put a loaded program on a version-2 cgroup, by descriptors, for as long as the group exists."""
    request = struct.pack("IIII", directory, program, _ATTACH_DEVICE, _ALLOW_MULTI)
    call("bpf", _PROG_ATTACH, request, len(request), path="device rules")
