"""A server that is never the bottleneck: `answer.py PORT` says "It runs" to every connection, with a long queue.

busybox's httpd has room for nine waiting connections; on a busy machine the kernel drops the tenth.
"""

from __future__ import annotations

import asyncio
import sys


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One request of HTTP/1.0."""
    try:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.0 200 OK\r\nContent-Length: 9\r\n\r\nIt runs.\n")
        await writer.drain()
    except (OSError, asyncio.IncompleteReadError):
        return
    finally:
        writer.close()


async def main(port: int) -> None:
    """Until killed."""
    server = await asyncio.start_server(answer, "0.0.0.0", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
