"""`docker cp`: a path of a container's file system as a tar stream, out and in.

What a path is (the header clients look at first) is read from the stream's own first member.
"""

from __future__ import annotations

import base64
import io
import json
import tarfile
from collections.abc import AsyncIterator
from typing import Any

from agent.engine_api.containers import event_attributes
from agent.engine_api.engine import Engine
from agent.engine_api.message import Answer, Request, Response, Stream, empty
from agent.engine_api.router import Route
from agent.engine_api.text import rfc3339
from runtime.engine.model import Container
from runtime.errors import CorruptData, InvalidInput, NotFound

_HEADER = "X-Docker-Container-Path-Stat"
_HEAD_LIMIT = 1024 * 1024
# Go's os.FileMode bits (package io/fs)
_GO_TYPES = {
    tarfile.DIRTYPE: 1 << 31,
    tarfile.SYMTYPE: 1 << 27,
    tarfile.BLKTYPE: 1 << 26,
    tarfile.FIFOTYPE: 1 << 25,
    tarfile.CHRTYPE: 1 << 26 | 1 << 21,
}
_GO_SETUID, _GO_SETGID, _GO_STICKY = 1 << 23, 1 << 22, 1 << 20


class Archive:
    """Files in and out of containers."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def routes(self) -> list[Route]:
        """The operations of this resource."""
        return [
            Route("HEAD", "/containers/{id}/archive", self.stat),
            Route("GET", "/containers/{id}/archive", self.get),
            Route("PUT", "/containers/{id}/archive", self.put),
        ]

    async def stat(self, request: Request, id: str) -> Answer:
        """HEAD: what the path is."""
        container, path = await self._target(request, id)
        chunks, header = await self._open(container, path)
        await aclose(chunks)
        return Response(headers=((_HEADER, header),), content_type="application/octet-stream")

    async def get(self, request: Request, id: str) -> Answer:
        """GET: the path as a tar stream."""
        container, path = await self._target(request, id)
        chunks, header = await self._open(container, path)
        self._tell(container, "archive-path")
        return Stream(chunks=chunks, content_type="application/x-tar", headers=((_HEADER, header),))

    async def put(self, request: Request, id: str) -> Answer:
        """PUT: unpack the body into the directory `path`."""
        container, path = await self._target(request, id)
        try:
            await self._engine.runtime.archive_in(
                container.id,
                path,
                request.body,
                replace=not request.flag("noOverwriteDirNonDir"),
                owned=request.flag("copyUIDGID"),
            )
        except NotFound as e:
            raise _no_path(container, path) from e
        self._tell(container, "extract-to-dir")
        return empty()

    async def _target(self, request: Request, ref: str) -> tuple[Container, str]:
        path = request.query.get("path", "")
        if not path:
            raise InvalidInput("bad parameter: path cannot be empty")
        return await self._engine.container(ref), path

    async def _open(self, container: Container, path: str) -> tuple[AsyncIterator[bytes], str]:
        try:
            chunks = await self._engine.runtime.archive_out(container.id, path)
            head, member = await _first_member(chunks)
        except NotFound as e:
            raise _no_path(container, path) from e
        return _rejoined(head, chunks), base64.b64encode(json.dumps(_stat_json(member)).encode()).decode()

    def _tell(self, container: Container, action: str) -> None:
        self._engine.hub.emit("container", action, container.id, **event_attributes(container))


def _no_path(container: Container, path: str) -> NotFound:
    return NotFound(f"Could not find the file {path} in container {container.id}")


async def _first_member(chunks: AsyncIterator[bytes]) -> tuple[bytes, tarfile.TarInfo]:
    head = b""
    async for chunk in chunks:
        head += chunk
        try:
            with tarfile.open(fileobj=io.BytesIO(head), mode="r:") as tar:
                if (member := tar.next()) is not None:
                    return head, member
        except tarfile.TarError:
            pass  # long names take several blocks: read on
        if len(head) > _HEAD_LIMIT:
            break
    raise CorruptData("cannot read what the path is: the copy has no first member")


async def _rejoined(head: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    try:
        yield head
        async for chunk in rest:
            yield chunk
    finally:
        await aclose(rest)


async def aclose(chunks: AsyncIterator[bytes]) -> None:
    """End an iterator that may hold a process or files."""
    if (close := getattr(chunks, "aclose", None)) is not None:
        await close()


def _stat_json(member: tarfile.TarInfo) -> dict[str, Any]:
    return {
        "name": member.name.rstrip("/").rsplit("/", 1)[-1] or "/",
        "size": member.size,
        "mode": go_mode(member),
        "mtime": rfc3339(float(member.mtime)),
        "linkTarget": member.linkname,
    }


def go_mode(member: tarfile.TarInfo) -> int:
    """Type and permissions as Go's FileMode, which is what clients decode."""
    mode = (member.mode & 0o777) | _GO_TYPES.get(member.type, 0)
    mode |= _GO_SETUID if member.mode & 0o4000 else 0
    mode |= _GO_SETGID if member.mode & 0o2000 else 0
    return mode | (_GO_STICKY if member.mode & 0o1000 else 0)
