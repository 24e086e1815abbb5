"""Errors on their way across a process border: to a JSON object and back to the same type."""

from __future__ import annotations

import contextlib
import os
from typing import Any

from runtime import errors
from runtime.errors import CommandFailed, KernelRefused, TrueupError

_LONGEST = 2000  # characters of a text: a name in it can be an image's, and as long as it likes


def complain(who: str, error: BaseException) -> None:
    """Say it in the spawner's log. Never raises: a full disk shall not be the end of who wants to say something."""
    with contextlib.suppress(OSError):
        os.write(2, f"{who}: {type(error).__name__}: {_short(str(error))}\n".encode(errors="replace"))


def to_wire(error: BaseException, doing: str = "") -> dict[str, Any]:
    """A JSON-able description; `doing` names the step that failed ("mount proc on /proc")."""
    if isinstance(error, TrueupError):
        found = {"type": type(error).__name__, "message": _short(error.message), "hint": _short(error.hint)}
        if isinstance(error, CommandFailed):
            found["exit_code"] = error.exit_code  # type: ignore[assignment]
        if isinstance(error, KernelRefused):
            found["errno"] = error.errno  # type: ignore[assignment]
        return found
    if isinstance(error, OSError):
        text = error.strerror or str(error)
        name = f" ({error.filename})" if error.filename else ""
        message = f"cannot {doing or 'start'}: {text}{name}"
        return {"type": "KernelRefused", "message": _short(message), "errno": error.errno or 0}
    message = f"cannot {doing or 'start'}: {type(error).__name__}: {error}"
    return {"type": "KernelRefused", "message": _short(message)}


def _short(text: str) -> str:
    """Both ends of it, which say what could not be done and why."""
    half = _LONGEST // 2
    return text if len(text) <= _LONGEST else f"{text[:half]}…{text[-half:]}"


def from_wire(found: dict[str, Any]) -> TrueupError:
    """The error that `to_wire` described."""
    kind = getattr(errors, str(found.get("type")), KernelRefused)
    message, hint = str(found.get("message", "")), str(found.get("hint", ""))
    if kind is CommandFailed:
        return CommandFailed(message, hint=hint, exit_code=int(found.get("exit_code", 126)))
    if kind is KernelRefused:
        return KernelRefused(message, hint=hint, errno=int(found.get("errno", 0)))
    error: TrueupError = kind(message, hint=hint)
    return error
