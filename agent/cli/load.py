"""`trueup load`: import an image archive, so that no registry is needed."""

from __future__ import annotations

import os
import sys
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

import click

from agent.cli.options import chosen
from agent.cli.pull import show_transfer
from runtime.errors import InvalidInput


@click.command("load", epilog="Example: trueup load app.tar.zst, or: ssh build docker save app | trueup load -")
@click.argument("archives", nargs=-1, required=True, metavar="FILE…")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing when it went well.")
def command(archives: tuple[str, ...], quiet: bool) -> None:
    """Import OCI-layout or docker-save archives: plain, gzip or zstd, or an OCI layout's directory; "-" is stdin."""
    client = chosen().client()
    for archive in archives:
        with _opened(archive) as file:
            show_transfer(client.upload("/images/load", file), quiet=quiet)
    sys.stdout.flush()


@contextmanager
def _opened(archive: str) -> Iterator[IO[bytes]]:
    if archive == "-":
        yield sys.stdin.buffer
    elif os.path.isdir(archive):
        with _packed(archive) as file:
            yield file
    else:
        try:
            fd = os.open(archive, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as e:
            raise InvalidInput(f"cannot load {archive}: {e.strerror}") from e
        with os.fdopen(fd, "rb") as file:
            yield file


@contextmanager
def _packed(directory: str) -> Iterator[IO[bytes]]:
    """A directory as a tar, made while it is read."""
    reader, writer = os.pipe()

    def pack() -> None:
        try:
            with os.fdopen(writer, "wb") as out, tarfile.open(fileobj=out, mode="w|") as tar:
                tar.add(directory, arcname=".")
        except OSError:
            pass  # the agent wanted no more of it, and says why

    thread = threading.Thread(target=pack, daemon=True)
    thread.start()
    with os.fdopen(reader, "rb") as file:
        yield file
    thread.join()
