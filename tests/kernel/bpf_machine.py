"""An interpreter of classic BPF as seccomp runs it, for tests: verdicts and which instructions were reached."""

from __future__ import annotations

import struct

X86_64 = 0xC000003E


class Machine:
    """Runs one program over and over and remembers every instruction it has executed."""

    def __init__(self, program: bytes) -> None:
        self.code = [struct.unpack_from("HBBI", program, i) for i in range(0, len(program), 8)]
        self.reached: set[int] = set()

    def run(self, number: int, *args: int, arch: int = X86_64) -> int:
        """The verdict for one syscall."""
        padded = [*(a & (1 << 64) - 1 for a in args), 0, 0, 0, 0, 0, 0][:6]
        data = struct.pack("IIQ6Q", number & 0xFFFFFFFF, arch, 0, *padded)
        accumulator = at = 0
        while True:
            self.reached.add(at)
            code, true, false, k = self.code[at]
            at += 1
            if code == 0x20:
                accumulator = struct.unpack_from("I", data, k)[0]
            elif code == 0x05:
                at += k
            elif code == 0x15:
                at += true if accumulator == k else false
            elif code == 0x25:
                at += true if accumulator > k else false
            elif code == 0x35:
                at += true if accumulator >= k else false
            elif code == 0x54:
                accumulator &= k
            elif code == 0x06:
                return k
            else:
                raise AssertionError(f"instruction {code:#x}")
