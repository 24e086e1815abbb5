"""Server and client of the network measurements, run in a network namespace by path: standard library alone.

`serve PORT` answers a connection that begins with P with one byte, and sends one that begins with T zeros until
it closes. `ask HOST PORT SECONDS` and `resolve SERVER NAME SECONDS` print what they measured as JSON.
"""

from __future__ import annotations

import itertools
import json
import socket
import struct
import sys
import threading
import time

BLOCK = 1 << 18
WINDOW = 16


def serve(port: str) -> None:
    """Until killed."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("0.0.0.0", int(port)))
    listener.listen(512)
    while True:
        client = listener.accept()[0]
        if client.recv(1) == b"P":
            client.sendall(b"x")
            client.close()
        else:
            threading.Thread(target=_pour, args=(client,), daemon=True).start()


def _pour(client: socket.socket) -> None:
    zeros = bytes(BLOCK)
    try:
        while True:
            client.sendall(zeros)
    except OSError:
        client.close()


def ask(host: str, port: str, seconds: str) -> dict[str, float]:
    """Median microseconds of connect + one byte, and gigabytes a second of a stream."""
    taken, address = [], (host, int(port))
    deadline = time.monotonic() + float(seconds)
    while time.monotonic() < deadline:
        start = time.perf_counter()
        with socket.create_connection(address, 5) as sock:
            sock.sendall(b"P")
            sock.recv(1)
        taken.append(time.perf_counter() - start)
    buffer, total = bytearray(BLOCK), 0
    with socket.create_connection(address, 5) as sock:
        sock.sendall(b"T")
        start = time.perf_counter()
        while time.perf_counter() - start < float(seconds):
            total += sock.recv_into(buffer)
        rate = total / (time.perf_counter() - start) / 1e9
    return {"latency": sorted(taken)[len(taken) // 2] * 1e6, "rate": rate}


def resolve(server: str, name: str, seconds: str) -> dict[str, float]:
    """Answers a second with a few questions always on their way, and the 99th percentile in milliseconds."""
    labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split("."))
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.connect((server, 53))
    sock.settimeout(2)
    numbers, sent = itertools.count(), dict[bytes, float]()
    taken: list[float] = []

    def question() -> None:
        identity = (next(numbers) & 0xFFFF).to_bytes(2, "big")
        sent[identity] = time.perf_counter()
        sock.send(identity + struct.pack(">HHHHH", 0x0100, 1, 0, 0, 0) + labels + b"\0\0\1\0\1")

    for _ in range(WINDOW):
        question()
    start = time.perf_counter()
    while time.perf_counter() - start < float(seconds):
        answer = sock.recv(4096)
        if answer[3] & 15 or answer[6:8] == b"\0\0":
            raise SystemExit(f"no address for {name}: {answer!r}")
        taken.append(time.perf_counter() - sent.pop(answer[:2]))
        question()
    elapsed = time.perf_counter() - start
    return {"rate": len(taken) / elapsed, "p99": sorted(taken)[int(len(taken) * 0.99)] * 1e3}


if __name__ == "__main__":
    what, words = sys.argv[1], sys.argv[2:]
    if what == "serve":
        serve(*words)
    print(json.dumps(ask(*words) if what == "ask" else resolve(*words)))
