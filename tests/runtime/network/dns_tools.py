"""A DNS client to run inside a namespace, and a small upstream server that remembers who asked."""

from __future__ import annotations

import ipaddress
import json
import socket
import struct
import subprocess
import sys
import threading
from typing import Self

from runtime.network.dns import wire
from tests.leaks import SLOW

from .world import Box

_CLIENT = """
import json, socket, struct, sys, time
server, data, tcp = sys.argv[1], bytes.fromhex(sys.argv[2]), sys.argv[3] == "tcp"
wait, starting = float(sys.argv[4]), float(sys.argv[5])
family = socket.AF_INET6 if ":" in server else socket.AF_INET
end = time.monotonic() + starting
while True:
    s = socket.socket(family, socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM)
    s.settimeout(wait)
    try:
        s.connect((server, 53))
        s.sendall(len(data).to_bytes(2, "big") + data if tcp else data)
        answer = s.recv(65535)
        while tcp and len(answer) < 2 + int.from_bytes(answer[:2], "big"):
            answer += s.recv(65535)
        print(json.dumps((answer[2:] if tcp else answer).hex()))
        break
    except ConnectionRefusedError:  # the server is starting; after six times we are told once a second (icmp_ratelimit)
        time.sleep(starting / 300)
    except OSError:
        end = 0
    if time.monotonic() > end:
        print(json.dumps("timeout"))
        break
"""


def query(name: str, kind: int = wire.A, edns: int = 0) -> bytes:
    """A query with a fixed id."""
    tail = b"\0" + struct.pack("!HHIH", wire.OPT, edns, 0, 0) if edns else b""
    header = struct.pack("!HHHHHH", 4660, wire.RD, 1, 0, 0, 1 if edns else 0)
    return header + wire.encode_name(name) + struct.pack("!HH", kind, wire.IN) + tail


def ask_dns(
    box: Box, server: str, name: str, kind: int = wire.A, *, tcp: bool = False, edns: int = 0, wait: float = 2.0
) -> tuple[int, list[str]] | str:
    """(code, addresses) of the answer, "timeout" or "truncated"."""
    argv = ["nsenter", f"--net=/proc/{box.pid}/ns/net", sys.executable, "-I", "-S", "-c", _CLIENT]
    argv += [server, query(name, kind, edns).hex(), "tcp" if tcp else "udp", str(wait * SLOW), str(15 * SLOW)]
    found = json.loads(subprocess.run(argv, stdout=subprocess.PIPE, text=True, timeout=20 * SLOW).stdout)
    return found if found == "timeout" else read_answer(bytes.fromhex(found), wire.encode_name(name))


def read_answer(answer: bytes, name: bytes) -> tuple[int, list[str]] | str:
    """The addresses of an answer whose records all point back at the question."""
    flags, _, count = struct.unpack_from("!HHH", answer, 2)
    if flags & wire.TC:
        return "truncated"
    offset, found = 12 + len(name) + 4, []
    for _ in range(count):
        length = struct.unpack_from("!H", answer, offset + 10)[0]
        found.append(str(ipaddress.ip_address(answer[offset + 12 : offset + 12 + length])))
        offset += 12 + length
    return flags & 15, found


def throw(box: Box, server: str, data: bytes, times: int, *, tcp: bool = False) -> None:
    """Send garbage."""
    script = (
        "import socket, sys; tcp = sys.argv[4] == 'tcp'\n"
        "for i in range(int(sys.argv[3])):\n"
        "    s = socket.socket(socket.AF_INET, socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM)\n"
        "    s.connect((sys.argv[1], 53))\n"
        "    data = bytes.fromhex(sys.argv[2])\n"
        "    try: s.sendall(data[i:] + data[:i])\n"
        "    except OSError: pass\n"
    )
    argv = ["nsenter", f"--net=/proc/{box.pid}/ns/net", sys.executable, "-I", "-S", "-c", script]
    subprocess.run([*argv, server, data.hex(), str(times), "tcp" if tcp else "udp"], check=True, timeout=20 * SLOW)


_FLOOD = """
import json, socket, sys, time
server, window, queries = sys.argv[1], int(sys.argv[2]), [bytes.fromhex(line) for line in sys.stdin.read().split()]
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, 33, 8 << 20)  # SO_RCVBUFFORCE: answers come in bursts
s.connect((server, 53))
codes, sent, answered = {}, 0, 0
s.settimeout(float(sys.argv[3]))
try:
    while answered < len(queries):
        while sent < len(queries) and sent - answered < window:
            s.send(queries[sent])
            sent += 1
        code = s.recv(4096)[3] & 15
        codes[code] = codes.get(code, 0) + 1
        answered += 1
except TimeoutError:
    pass
print(json.dumps(codes))
"""


def flood(box: Box, server: str, queries: list[bytes], window: int, patience: float = 5.0) -> dict[int, int]:
    """Ask all of `queries`, `window` at a time, until `patience` seconds bring no answer: answers by code."""
    argv = ["nsenter", f"--net=/proc/{box.pid}/ns/net", sys.executable, "-I", "-S", "-c", _FLOOD]
    text = "\n".join(query.hex() for query in queries)
    argv += [server, str(window), str(patience * SLOW)]
    done = subprocess.run(argv, input=text, stdout=subprocess.PIPE, text=True, timeout=60 * SLOW, check=True)
    return {int(code): count for code, count in json.loads(done.stdout).items()}


class Upstream:
    """Answers 192.0.2.7 to everything, over UDP and TCP."""

    def __init__(self, address: str) -> None:
        self.asked: list[str] = []
        self.ports: list[int] = []
        self.forge = False
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        for sock in (self._udp, self._tcp):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((address, 53))
        self._tcp.listen(16)

    def __enter__(self) -> Self:
        for serve in (self._serve_udp, self._serve_tcp):
            threading.Thread(target=serve, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for sock in (self._udp, self._tcp):
            sock.shutdown(socket.SHUT_RDWR) if sock is self._tcp else None
            sock.close()

    def _answer(self, data: bytes, peer: tuple[str, int], kind: str) -> bytes:
        question = wire.parse_query(data)
        self.asked.append(f"{kind} {question.name}")
        self.ports.append(peer[1])
        answer = wire.encode_response(question, [wire.address_record("192.0.2.7", 60)])
        return bytes((answer[0] ^ 1,)) + answer[1:] if self.forge else answer

    def _serve_udp(self) -> None:
        while True:
            try:
                data, peer = self._udp.recvfrom(4096)
                self._udp.sendto(self._answer(data, peer, "udp"), peer)
            except OSError:
                return

    def _serve_tcp(self) -> None:
        while True:
            try:
                sock, peer = self._tcp.accept()
            except OSError:
                return
            with sock:
                data = sock.recv(4096)
                answer = self._answer(data[2:], peer, "tcp")
                sock.sendall(len(answer).to_bytes(2, "big") + answer)
