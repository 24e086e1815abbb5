"""Requests at a steady rate, run as a program: `load.py HOST PORT RATE`, until its standard input closes.

Prints as JSON how many were made and, for each that failed, how: at the connection or while it was answered.
A request begins when it is due, however long those before it take. Standard library alone: it runs in any
network namespace.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

PATIENCE = 20.0  # seconds: a lost SYN is sent again after 1, 3, 7 and 15


class Load:
    """What was asked and what came of it."""

    def __init__(self, host: str, port: int) -> None:
        self.host, self.port = host, port
        self.made, self.slowest = 0, 0.0
        self.failed: list[tuple[str, str, float]] = []

    async def ask(self) -> None:
        """One request, judged."""
        self.made += 1
        phase, began = "connect", time.monotonic()
        try:
            async with asyncio.timeout(PATIENCE):
                reader, writer = await asyncio.open_connection(self.host, self.port)
                phase = "answer"
                writer.write(b"GET / HTTP/1.0\r\n\r\n")
                answer = await reader.read()
                writer.close()
            if b"It runs" not in answer:
                raise ConnectionError(f"{len(answer)} bytes that are no answer")
        except (OSError, TimeoutError) as error:
            self.failed.append((phase, repr(error), time.time()))
        self.slowest = max(self.slowest, time.monotonic() - began)

    async def run(self, rate: float) -> None:
        """Ask until the input closes, then wait for what is under way."""
        over = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_reader(0, over.set)
        due, pending = loop.time(), set[asyncio.Task[None]]()
        while not over.is_set():
            task = loop.create_task(self.ask())
            pending.add(task)
            task.add_done_callback(pending.discard)
            due = max(due + 1 / rate, loop.time() - 1)
            await asyncio.sleep(due - loop.time())
        await asyncio.gather(*pending)


if __name__ == "__main__":
    load = Load(sys.argv[1], int(sys.argv[2]))
    asyncio.run(load.run(float(sys.argv[3])))
    print(json.dumps({"made": load.made, "failed": load.failed, "slowest": round(load.slowest, 3)}))
