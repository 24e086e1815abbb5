"""`trueup exec`: a command inside a running container, with the terminal there is and its exit code."""

from __future__ import annotations

import os
import select
import shutil
import signal
import socket
import sys
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from agent.cli.client import Client
from agent.cli.containers import find, name_of
from agent.cli.logs import split_frames
from agent.cli.options import chosen
from runtime.errors import Conflict, TrueupError

_CHUNK = 64 * 1024


@click.command(
    "exec",
    epilog="Example: trueup exec shop/web sh -c 'ps; hostname'",
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
@click.argument("service")
@click.argument("words", nargs=-1, required=True, type=click.UNPROCESSED, metavar="CMD…")
@click.option("-T", "--no-tty", is_flag=True, help="No terminal even when there is one.")
@click.option("-u", "--user", default="", help="User (and group) inside.")
@click.option("-w", "--workdir", default="", help="Working directory inside.")
@click.option("-e", "--env", "environment", multiple=True, metavar="KEY=VALUE", help="Set a variable (repeatable).")
@click.option("--index", type=int, default=1, help="Which running replica, counted from 1.")
def command(
    service: str,
    words: tuple[str, ...],
    no_tty: bool,
    user: str,
    workdir: str,
    environment: tuple[str, ...],
    index: int,
) -> None:
    """Run CMD in a running container of SERVICE; its exit code is ours.

    Options go before SERVICE; what follows it belongs to CMD.
    """
    client = chosen().client()
    running = [c for c in find(client, service) if c["State"] == "running"]
    if not 0 < index <= len(running):
        raise Conflict(f"cannot exec in {service}: {len(running)} of its containers run", hint="see `trueup status`")
    terminal = not no_tty and sys.stdin.isatty() and sys.stdout.isatty()
    body: dict[str, Any] = {
        "Cmd": list(words),
        "Tty": terminal,
        "User": user,
        "WorkingDir": workdir,
        "Env": list(environment),
        "AttachStdin": True,
        "AttachStdout": True,
        "AttachStderr": True,
    }
    try:
        made = client.post(f"/containers/{running[index - 1]['Id']}/exec", body)["Id"]
        run(client, made, terminal)
    except TrueupError as e:
        raise type(e)(f"cannot exec in {name_of(running[index - 1])}: {e}") from e
    sys.exit(client.get(f"/exec/{made}/json")["ExitCode"] or 0)


def run(client: Client, exec_id: str, terminal: bool) -> None:
    """Start the exec and carry its streams until it ends."""
    start: dict[str, Any] = {"Tty": terminal, "Detach": False}
    if terminal:
        columns, rows = shutil.get_terminal_size()
        start["ConsoleSize"] = [rows, columns]
    sock, head = client.hijack(f"/exec/{exec_id}/start", start)
    with sock:
        if not terminal:
            for stream, data in split_frames(_carry(sock, head)):
                _write(2 if stream == 2 else 1, data)
            return
        with _raw_terminal(), _resizing(client, exec_id):
            for data in _carry(sock, head):
                _write(1, data)


def _carry(sock: socket.socket, head: bytes) -> Iterator[bytes]:
    """Output as it comes, while stdin is passed on."""
    if head:
        yield head
    wanted: list[Any] = [sock, sys.stdin.fileno()]
    while True:
        ready, _, _ = select.select(wanted, [], [])
        if sys.stdin.fileno() in ready:
            typed = _read_stdin()
            if typed:
                sock.sendall(typed)
            else:
                wanted.remove(sys.stdin.fileno())
                sock.shutdown(socket.SHUT_WR)
        if sock in ready:
            data = sock.recv(_CHUNK)
            if not data:
                return
            yield data


def _read_stdin() -> bytes:
    try:
        return os.read(sys.stdin.fileno(), _CHUNK)
    except OSError:
        return b""


def _write(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


@contextmanager
def _raw_terminal() -> Iterator[None]:
    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)
    try:
        tty.setraw(fd)
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


@contextmanager
def _resizing(client: Client, exec_id: str) -> Iterator[None]:
    def resize(*_: object) -> None:
        columns, rows = shutil.get_terminal_size()
        try:
            client.post(f"/exec/{exec_id}/resize", h=rows, w=columns)
        except TrueupError:
            pass  # it may have just ended

    before = signal.signal(signal.SIGWINCH, resize)
    try:
        yield
    finally:
        signal.signal(signal.SIGWINCH, before)
