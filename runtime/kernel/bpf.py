"""Classic BPF: instructions, and an assembler of blocks with jumps by label (man 2 seccomp, bpf(4)).

A conditional jump reaches 255 instructions; `branch` bridges longer ways with an unconditional one.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

LD_W_ABS, JMP_JA, JMP_JEQ, JMP_JGT, JMP_JGE, ALU_AND, RET_K = 0x20, 0x05, 0x15, 0x25, 0x35, 0x54, 0x06

NEXT = ""  # the label of the instruction that follows


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction; `true` and `false` are offsets relative to the next."""

    code: int
    k: int
    true: int = 0
    false: int = 0

    def pack(self) -> bytes:
        """As the kernel's struct sock_filter."""
        return struct.pack("HBBI", self.code, self.true, self.false, self.k)


Program = tuple[Instruction, ...]


def load(offset: int) -> Instruction:
    """Load the 32-bit word at `offset` of struct seccomp_data."""
    return Instruction(LD_W_ABS, offset)


def ret(value: int) -> Instruction:
    """End with this verdict."""
    return Instruction(RET_K, value)


@dataclass(frozen=True, slots=True)
class Step:
    """An instruction of a block before its jumps are resolved."""

    code: int
    k: int
    true: str = NEXT
    false: str = NEXT


def assemble(steps: list[Step | str]) -> Program:
    """Resolve the labels (the strings between steps) of one block of at most 255 instructions."""
    position: dict[str, int] = {}
    code: list[Step] = []
    for step in steps:
        if isinstance(step, str):
            position[step] = len(code)
        else:
            code.append(step)

    def offset(label: str, at: int) -> int:
        return 0 if label == NEXT else position[label] - at - 1

    return tuple(Instruction(s.code, s.k, offset(s.true, i), offset(s.false, i)) for i, s in enumerate(code))


def branch(pivot: int, below: Program, from_pivot_on: Program) -> Program:
    """Run `from_pivot_on` where the loaded word is at least `pivot`, else `below`."""
    if len(below) <= 255:
        return (Instruction(JMP_JGE, pivot, len(below), 0), *below, *from_pivot_on)
    return (Instruction(JMP_JGE, pivot, 0, 1), Instruction(JMP_JA, len(below)), *below, *from_pivot_on)


def pack(program: Program) -> bytes:
    """The program as the kernel takes it."""
    return b"".join(i.pack() for i in program)
