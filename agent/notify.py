"""Telling systemd how the agent is doing (man 3 sd_notify); nothing happens without it."""

from __future__ import annotations

import os
import socket


def ready() -> None:
    """The agent serves."""
    _send("READY=1")


def stopping() -> None:
    """The agent ends; containers go on."""
    _send("STOPPING=1")


def _send(text: str) -> None:
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path:
        return
    address = "\0" + path[1:] if path.startswith("@") else path
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
        try:
            out.connect(address)
            out.send(text.encode())
        except OSError:
            pass  # nobody listens: the agent runs all the same
