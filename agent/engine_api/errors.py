"""Errors on the wire: the status comes from the error's type, the body is Docker's `{"message": …}`.

`ApiError` carries a status the error tree has no type for (304, 405, 413, …); wording that clients
parse ("No such container: x") is made where the thing is looked up, in `lookup`.
"""

from __future__ import annotations

import json
import logging

from agent.engine_api.message import Response
from runtime.errors import TrueupError

log = logging.getLogger(__name__)


class ApiError(TrueupError):
    """An answer with exactly this status and text."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.http_status = status


def answer(error: BaseException) -> Response:
    """The response that tells a client about `error`; what we did not raise on purpose is logged, not shown."""
    return refusal(error.http_status if isinstance(error, TrueupError) else 500, text(error))


def text(error: BaseException) -> str:
    """What a client is told about `error`; what we did not raise on purpose is logged, not shown."""
    if isinstance(error, TrueupError):
        if error.http_status == 500:
            log.warning("an API request failed: %s", error)
        return str(error)
    log.error("cannot answer an API request: %s", error, exc_info=error)
    return f"cannot answer: internal error ({type(error).__name__}), see the agent's log"


def refusal(status: int, message: str) -> Response:
    """`{"message": …}` with this status; 304 and 204 have no body."""
    if status in (204, 304):
        return Response(status=status, body=b"")
    return Response(status=status, body=json.dumps({"message": message}).encode() + b"\n")


def unexpected(error: BaseException) -> BaseException | None:
    """What deserves a traceback in the log: nothing that we raise on purpose."""
    return None if isinstance(error, TrueupError) else error
