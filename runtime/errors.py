"""The error tree of the runtime: the type says what to do next, the text what happened.

TrueupError
├── InvalidInput        the request can never work as written          (HTTP 400; do not retry)
├── NotFound            the named thing does not exist                 (404)
├── Conflict            the thing's state forbids it, or name taken    (409; someone must change something)
├── Forbidden           a policy or the registry refuses               (403)
├── Unauthorized        credentials missing or wrong                   (401)
├── Unsupported         this kernel or this build cannot               (501; see `trueup doctor`)
├── Unavailable         a resource is exhausted or away for now        (503; retry with back-off)
│   └── TimedOut        no progress within the limit                   (504; retry with back-off)
├── CorruptData         bytes do not match their digest or format      (500; quarantine, fetch again)
├── CommandFailed       the container's command cannot be executed     (400; exit code 126 or 127)
└── KernelRefused       a syscall failed that should not have          (500)

Every text starts with "cannot", names the thing and the cause; `hint` says what a person can do.
"""

from __future__ import annotations


class TrueupError(Exception):
    """Root of all errors we raise on purpose; `str()` is one line fit for a person."""

    http_status = 500
    retry = False

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class InvalidInput(TrueupError):
    """The request can never work as written."""

    http_status = 400


class NotFound(TrueupError):
    """The named thing does not exist."""

    http_status = 404


class Conflict(TrueupError):
    """The state of a thing, or a name already taken, forbids the request."""

    http_status = 409


class Forbidden(TrueupError):
    """A policy of ours or of a registry refuses the request."""

    http_status = 403


class Unauthorized(TrueupError):
    """Credentials are missing or wrong."""

    http_status = 401


class Unsupported(TrueupError):
    """This kernel, machine or configuration cannot do it."""

    http_status = 501


class Unavailable(TrueupError):
    """A resource is exhausted or unreachable for now; trying again later may work."""

    http_status = 503
    retry = True


class TimedOut(Unavailable):
    """No progress was seen within the limit."""

    http_status = 504


class CorruptData(TrueupError):
    """Bytes do not match their digest, size or format."""


class CommandFailed(TrueupError):
    """The command of a container or exec cannot be executed.

    `exit_code` is 127 (not found) or 126 (found, not executable), as a shell reports them.
    """

    http_status = 400

    def __init__(self, message: str, *, exit_code: int, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.exit_code = exit_code


class KernelRefused(TrueupError):
    """A syscall failed that should not have; `errno` tells which way (man 3 errno)."""

    def __init__(self, message: str, *, errno: int = 0, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.errno = errno


AGAIN = "nothing is left of this start: it can be repeated"


def in_words(error: BaseException, what: str) -> BaseException:
    """An error of the system met by ourselves (no descriptors, no memory) as Unavailable; any other as it is."""
    return Unavailable(f"{what}: {error.strerror}") if isinstance(error, OSError) else error
