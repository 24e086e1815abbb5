"""A container that writes 200 MB in lines of 100 bytes, and reading all of it back through the API.

The floor is the same command writing to a plain file. Log rotation is off (max-size beyond the amount).
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator

from benchmarks.engines import Engine
from benchmarks.stage import Stage
from benchmarks.table import Row, Table

LINE = "x" * 99


def run(stage: Stage) -> Iterator[Table]:
    """Two tables: written, read back."""
    size = 20_000_000 if stage.quick else 200_000_000
    command = f"yes {LINE} | head -c {size}"
    written, read = [], []
    for engine in stage.engines():
        target = None if stage.quick else engine.target(1.0)
        options = {"LogConfig": {"Type": "json-file", "Config": {"max-size": "2g"}}}
        start = time.perf_counter()
        identity = engine.client.run("/bin/sh", "-c", command, **options)
        engine.client.wait(identity)
        written.append(Row(what=engine.name, value=time.perf_counter() - start, unit="s", most=target and 0.6))
        start = time.perf_counter()
        got = _read(engine, identity)
        note = "" if got == size else f"{got:,} of {size:,} bytes!"
        read.append(
            Row(
                what=engine.name,
                value=time.perf_counter() - start,
                unit="s",
                spread=note,
                most=target and 5.0,
            )
        )
        engine.client.remove(identity)
    start = time.perf_counter()
    with (stage.home / "plain").open("wb") as file:
        subprocess.run(["/bin/busybox", "sh", "-c", command], stdout=file, check=True)
    written.append(Row(what="floor: the same into a plain file", value=time.perf_counter() - start, unit="s"))
    (stage.home / "plain").unlink()
    yield Table(f"{size // 1_000_000} MB written: create + start + wait", tuple(written))
    yield Table(f"{size // 1_000_000} MB read back", tuple(read))


def _read(engine: Engine, identity: str) -> int:
    """Bytes of output in all frames (8 bytes of head before each)."""
    total, rest = 0, b""
    with engine.client.stream("GET", f"/containers/{identity}/logs?stdout=1&stderr=1") as response:
        while chunk := response.read1(1 << 20):
            data, position = rest + chunk, 0
            while position + 8 <= len(data):
                length = int.from_bytes(data[position + 4 : position + 8])
                if position + 8 + length > len(data):
                    break
                total += length
                position += 8 + length
            rest = data[position:]
    return total
