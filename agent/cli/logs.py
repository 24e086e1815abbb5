"""`trueup logs`: output of a service, of all its replicas at once when it has several."""

from __future__ import annotations

import struct
import sys
import threading
from collections.abc import Iterable, Iterator
from typing import Any

import click

from agent.cli.client import Client
from agent.cli.containers import find, name_of
from agent.cli.options import chosen
from runtime.errors import TrueupError

Piece = tuple[int, bytes]


@click.command("logs", epilog="Example: trueup logs -f --tail 20 shop/web")
@click.argument("service")
@click.option("-f", "--follow", is_flag=True, help="Go on as output comes.")
@click.option("-n", "--tail", default="all", metavar="N", help="Only the last N lines.")
@click.option("--since", default="", metavar="TIME", help='RFC 3339, seconds since the epoch, or "10m".')
@click.option("--until", default="", metavar="TIME", help="The same.")
@click.option("-t", "--timestamps", is_flag=True, help="Begin each line with its time.")
def command(service: str, follow: bool, tail: str, since: str, until: str, timestamps: bool) -> None:
    """Show the output of SERVICE: its name, PROJECT/SERVICE, or a container's name."""
    client = chosen().client()
    containers = find(client, service)
    query = {"stdout": 1, "stderr": 1, "follow": int(follow), "tail": tail, "since": since, "until": until}
    query["timestamps"] = int(timestamps)
    readers = [_Reader(client, c, query, prefix=len(containers) > 1) for c in containers]
    if len(readers) == 1:
        readers[0].run()
    else:
        _together(readers)


class _Reader:
    """Prints one container's log; several write whole lines, one at a time."""

    lock = threading.Lock()

    def __init__(self, client: Client, container: dict[str, Any], query: dict[str, Any], *, prefix: bool) -> None:
        self._client, self._query = client, query
        self._id = container["Id"]
        self._prefix = f"{name_of(container)} | ".encode() if prefix else b""
        self.error: TrueupError | None = None

    def run(self) -> None:
        """Read to the end. Raises TrueupError."""
        tty = self._client.get(f"/containers/{self._id}/json")["Config"]["Tty"]
        chunks = self._client.stream("GET", f"/containers/{self._id}/logs", **self._query)
        pieces: Iterable[Piece] = ((1, chunk) for chunk in chunks) if tty else split_frames(chunks)
        for stream, data in _lines(pieces) if self._prefix else pieces:
            out = sys.stderr.buffer if stream == 2 else sys.stdout.buffer
            with self.lock:
                out.write(self._prefix + data)
                out.flush()

    def guarded(self) -> None:
        """`run` in a thread: the error is kept."""
        try:
            self.run()
        except TrueupError as e:
            self.error = e


def _together(readers: list[_Reader]) -> None:
    threads = [threading.Thread(target=reader.guarded, daemon=True) for reader in readers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for reader in readers:
        if reader.error:
            raise reader.error


def split_frames(chunks: Iterable[bytes]) -> Iterator[Piece]:
    """(stream, payload) of Docker's 8-byte-headed frames."""
    rest = b""
    for chunk in chunks:
        rest += chunk
        while len(rest) >= 8:
            stream, size = struct.unpack(">BxxxL", rest[:8])
            if len(rest) < 8 + size:
                break
            yield stream, rest[8 : 8 + size]
            rest = rest[8 + size :]


def _lines(pieces: Iterable[Piece]) -> Iterator[Piece]:
    rests: dict[int, bytes] = {}
    for stream, data in pieces:
        *lines, rests[stream] = (rests.get(stream, b"") + data).split(b"\n")
        for line in lines:
            yield stream, line + b"\n"
    for stream, rest in rests.items():
        if rest:
            yield stream, rest + b"\n"
