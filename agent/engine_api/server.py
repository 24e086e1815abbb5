"""The API's listeners and the connections on them, from `serve` to `close`.

Every connection is a task of ours: counted, limited, and gone when the server is.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import os
import socket
import ssl

from agent.control import Control
from agent.engine_api.api import Api
from agent.engine_api.caller import remember
from agent.engine_api.connection import Connection, Dispatch, Limits
from agent.engine_api.errors import ApiError
from agent.engine_api.listen import Listener, close_listeners, open_listeners
from agent.engine_api.message import Answer, Request
from agent.engine_api.raw import Reader, Writer
from agent.engine_api.tls import TlsStream
from agent.settings import Settings
from runtime.errors import InvalidInput, TrueupError

log = logging.getLogger(__name__)

_READ_BUFFER = 256 * 1024
_LOOK = 2.0  # seconds between two looks whether our sockets can still be reached
_GRACE = 2.0  # seconds for answers under way when the server closes


class Server:
    """Open listeners of one agent. Made by `serve`."""

    def __init__(self, api: Api, settings: Settings, limits: Limits) -> None:
        self._api, self._settings, self._limits = api, settings, limits
        self._listeners: list[Listener] = []
        self._servers: list[asyncio.Server] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._connections: set[Connection] = set()
        self._closing = asyncio.Event()
        self._looking: asyncio.Task[None] | None = None

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where clients can connect, as for `docker -H`."""
        return tuple(listener.address for listener in self._listeners)

    async def open(self) -> None:
        """Start to listen. Raises what `open_listeners` raises."""
        self._listeners = open_listeners(self._settings.hosts, self._settings.api)
        await self._api.start()
        for listener in self._listeners:
            self._servers.append(await self._accept(listener))
        self._looking = asyncio.create_task(self._put_back(), name="sockets")

    async def _put_back(self) -> None:
        """Bind unix sockets that somebody removed once more; clients that are connected notice nothing."""
        while True:
            await asyncio.sleep(_LOOK)
            for number, listener in enumerate(self._listeners):
                if not listener.path or os.path.exists(listener.path):
                    continue
                try:
                    (again,) = open_listeners((listener.address,), self._settings.api)
                except TrueupError as error:
                    log.warning("%s was removed: %s", listener.path, error)
                    continue
                self._servers[number].close()
                self._listeners[number], self._servers[number] = again, await self._accept(again)
                log.warning("%s was removed, and is there again", listener.path)

    async def close(self) -> None:
        """End all streams cleanly, let short answers finish, and go."""
        self._closing.set()
        if self._looking is not None:
            self._looking.cancel()
        for connection in self._connections:
            connection.hang_up()
        for server in self._servers:
            server.close()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_GRACE)
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_GRACE)  # what does not heed it ends with the process
        close_listeners(self._listeners)
        await self._api.stop()

    async def _accept(self, listener: Listener) -> asyncio.Server:
        dispatch: Dispatch = self._dispatch_tcp if listener.tcp else self._api.dispatch

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await self._connected(reader, writer, dispatch, listener.tls)

        if listener.tcp:
            return await asyncio.start_server(connected, sock=listener.sock, limit=_READ_BUFFER, backlog=1024)
        return await asyncio.start_unix_server(connected, sock=listener.sock, limit=_READ_BUFFER, backlog=1024)

    async def _connected(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        dispatch: Dispatch,
        context: ssl.SSLContext | None,
    ) -> None:
        task = asyncio.current_task()
        if task is None or len(self._tasks) >= self._limits.connections:
            log.warning("cannot take another API connection: %d are open", len(self._tasks))
            writer.transport.abort()
            return
        self._tasks.add(task)
        remember(writer.get_extra_info("socket"))
        try:
            client: tuple[Reader, Writer] | None = (reader, writer)
            if context is not None:
                client = await self._agree(TlsStream(reader, writer, context))
            if client is not None:
                await self._serve(Connection(*client, dispatch, self._limits, self._closing))
        except asyncio.CancelledError:
            writer.transport.abort()  # only `close` cancels, and it waits for us
        finally:
            self._tasks.discard(task)

    async def _serve(self, connection: Connection) -> None:
        self._connections.add(connection)
        try:
            await connection.run()
        finally:
            self._connections.discard(connection)

    async def _agree(self, stream: TlsStream) -> tuple[TlsStream, TlsStream] | None:
        """The stream after its handshake; None for a client that fails it, which is no news of ours."""
        try:
            async with asyncio.timeout(self._limits.header_seconds):
                await stream.handshake()
        except (InvalidInput, OSError, TimeoutError) as e:
            log.debug("%s", e)
            stream.transport.close()
            return None
        return stream, stream

    async def _dispatch_tcp(self, request: Request) -> Answer:
        """Refuse what a browser was tricked into: a page's Origin, or a name rebound to our address."""
        if "origin" in request.headers:
            raise ApiError(403, "cannot answer a request that carries an Origin: this API is not for browsers")
        host = request.headers.get("host", "")
        if not _own_name(host, self._settings.api.host_names):
            raise ApiError(403, f"cannot answer for host {host!r}: set api.host_names to allow it")
        return await self._api.dispatch(request)


def _own_name(host: str, allowed: tuple[str, ...]) -> bool:
    name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
    name = name.strip("[]").lower()
    with contextlib.suppress(ValueError):
        ipaddress.ip_address(name)
        return True
    return name in ("localhost", socket.gethostname().lower(), *(n.lower() for n in allowed))


async def serve(control: Control, settings: Settings, *, limits: Limits | None = None) -> Server:
    """Serve the API of `control` on `settings.hosts`. Raises InvalidInput, Conflict, Unavailable."""
    server = Server(Api(control), settings, limits or Limits())
    try:
        await server.open()
    except BaseException:
        await server.close()
        raise
    return server
