"""The Docker Engine API on our engine, so that docker, Compose and the SDKs drive trueup.

`serve` opens the listeners. A request travels: server (sockets) → connection (HTTP/1.1 by h11) →
router (method and path → handler) → one module per resource → the runtime. Handlers return values
(`Response`, `Stream`, `Hijack`, `WebSocket`) and never touch a socket, so each can be read and tested alone.
"""

from __future__ import annotations

from agent.engine_api.server import Server, serve

__all__ = ["Server", "serve"]
