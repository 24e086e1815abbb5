"""Every way people and editors write a file, looked at in the middle: nothing is ever stopped by half a file."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

from tests.agent.jump import play
from tests.agent.world import World, world

ROUNDS = int(os.environ.get("TU_TORN_ROUNDS", "200"))  # times five styles


def text(version: int) -> bytes:
    services = "".join(
        f"  s{n}:\n    image: a\n    command: [run]\n    labels: {{version: '{version if n == 0 else 0}'}}\n"
        for n in range(4)
    )
    return f"services:\n{services}".encode()


def slowly(path: Path, data: bytes) -> Iterator[None]:
    """In place, piece by piece, every piece a valid file."""
    descriptor = os.open(path, os.O_WRONLY | os.O_TRUNC)
    for at in range(0, len(data), 97):
        os.write(descriptor, data[at : at + 97])
        yield
    os.close(descriptor)


def truncate_then_write(path: Path, data: bytes) -> Iterator[None]:
    path.write_bytes(b"")
    yield
    path.write_bytes(data)


def vim(path: Path, data: bytes) -> Iterator[None]:
    """The old file moves aside, a new one is written, the old one goes."""
    backup, swap = path.with_name("app.yaml~"), path.with_name(".app.yaml.swp")
    swap.write_bytes(b"b0VIM")
    yield
    path.rename(backup)
    yield
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)
    os.write(descriptor, data[:50])
    yield
    os.write(descriptor, data[50:])
    os.close(descriptor)
    yield
    backup.unlink()
    swap.unlink()


def sed(path: Path, data: bytes) -> Iterator[None]:
    """A temporary file beside it, renamed over it."""
    draft = path.with_name("sedX1y2z3")
    draft.write_bytes(data[:60])
    yield
    draft.write_bytes(data)
    yield
    draft.rename(path)


def copy(path: Path, data: bytes) -> Iterator[None]:
    with path.open("wb") as out:
        out.write(data[:120])
        out.flush()
        yield
        out.write(data[120:])


async def edit(w: World, style: Iterator[None]) -> None:
    """One edit, the directory read at every point of it."""
    for _ in style:
        w.scan()
        await asyncio.sleep(0.05)
    w.scan()
    await asyncio.sleep(0.05)


def test_no_stop_by_half_a_file(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as w:
            w.write("app.yaml", text(0).decode())
            await w.settle()
            before = {n: c.pid for n, c in w.containers().items()}
            w.done()
            version = 0
            for _ in range(ROUNDS):
                for style in (slowly, truncate_then_write, vim, sed, copy):
                    version += 1
                    await edit(w, style(w.specs / "app.yaml", text(version)))
                    assert w.containers()["app-s0-1"].config.labels["version"] == str(version), style.__name__
            assert {n: c.pid for n, c in w.containers().items()} == before
            assert {call.split()[0] for call in w.done()} == {"update"}

    play(story())
