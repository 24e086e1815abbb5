"""Requests and answers as values: what a handler is given and what it may return."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar
from urllib.parse import parse_qs

from pydantic import BaseModel, ValidationError
from pydantic_core import to_json

from agent.engine_api.plain_json import read_json
from agent.engine_api.versions import NEWEST, Version
from runtime.errors import InvalidInput

JSON = "application/json"
RAW_STREAM = "application/vnd.docker.raw-stream"
MULTIPLEXED_STREAM = "application/vnd.docker.multiplexed-stream"
BODY_LIMIT = 8 * 1024 * 1024  # of what we read into memory: JSON; archives are streamed

Headers = tuple[tuple[str, str], ...]
COMMON: Headers = (
    ("Api-Version", str(NEWEST)),
    ("Docker-Experimental", "false"),
    ("Ostype", "linux"),
    ("Server", "trueup (linux)"),
)
"""On every answer."""
Model = TypeVar("Model", bound=BaseModel)


class Duplex(Protocol):
    """A hijacked connection: bytes both ways, each direction closed on its own."""

    async def read(self) -> bytes:
        """Bytes from the client; b"" once it closed its direction."""
        ...

    async def write(self, data: bytes) -> None:
        """Send; returns when the client keeps up. Raises ConnectionError when it left."""
        ...

    async def close_write(self) -> None:
        """Half-close: the client sees the end of our output."""
        ...

    async def cut(self, reason: str) -> None:
        """Let the client take what was written, then break off: it cannot think that this was all."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """A whole answer."""

    status: int = 200
    body: bytes = b""
    content_type: str = JSON
    headers: Headers = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """An answer sent piece by piece, headers at once; it is closed when the client leaves.

    An `endless` one ends cleanly with the agent; any other is then cut off, or half an archive would look whole.
    """

    chunks: AsyncIterator[bytes]
    endless: bool = False
    status: int = 200
    content_type: str = JSON
    headers: Headers = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Hijack:
    """The connection becomes a raw stream handed to `run`: 101 to clients that ask to upgrade, else 200.

    What `run` uses is opened before the client hears the head, so that it misses nothing; `close` lets go of
    it, also when the client left before `run` could begin.
    """

    run: Callable[[Duplex], Awaitable[None]]
    content_type: str = RAW_STREAM
    close: Callable[[], Awaitable[None]] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WebSocket:
    """The connection becomes a websocket; `run` reads and writes message payloads. `close` as in `Hijack`."""

    run: Callable[[Duplex], Awaitable[None]]
    close: Callable[[], Awaitable[None]] | None = None


Answer = Response | Stream | Hijack | WebSocket


@dataclass(slots=True, kw_only=True)
class Request:
    """One request; `path` is unversioned, `query` holds the last value of each parameter."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    lists: Mapping[str, list[str]] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    version: Version = NEWEST
    body: AsyncIterator[bytes]

    def flag(self, name: str, default: bool = False) -> bool:
        """A boolean parameter as Docker reads it: "", 0, no, false and none are false."""
        value = self.query.get(name)
        return default if value is None else value.strip().lower() not in ("", "0", "no", "false", "none")

    def number(self, name: str, default: int, *, within: range | None = None) -> int:
        """A whole-number parameter. Raises InvalidInput."""
        value = self.query.get(name, "")
        try:
            found = int(value) if value else default
        except ValueError as e:
            raise InvalidInput(f"cannot read parameter {name}={value!r}: not a whole number") from e
        if within is not None and found not in within:
            raise InvalidInput(f"cannot read parameter {name}={value}: not within {within[0]} and {within[-1]}")
        return found

    async def read(self, limit: int = BODY_LIMIT) -> bytes:
        """The whole body. Raises InvalidInput past `limit` bytes."""
        parts, size = [], 0
        async for chunk in self.body:
            size += len(chunk)
            if size > limit:
                raise InvalidInput(f"cannot read the request's body: larger than {limit} bytes")
            parts.append(bytes(chunk))
        return b"".join(parts)

    async def json(self) -> Any:
        """The body as JSON; None when it is empty. Raises InvalidInput."""
        data = await self.read()
        if not data.strip():
            return None
        try:
            return read_json(data)
        except (ValueError, RecursionError) as e:
            raise InvalidInput(f"cannot read the request's body: invalid JSON: {e}") from e

    async def model(self, kind: type[Model]) -> Model:
        """The body as a `kind`; an absent body is an empty object. Raises InvalidInput naming the field."""
        tree = await self.json()
        try:
            return kind.model_validate({} if tree is None else tree)
        except ValidationError as e:
            first = e.errors(include_url=False)[0]
            where = ".".join(str(part) for part in first["loc"]) or "body"
            raise InvalidInput(f"invalid JSON: cannot read {where}: {first['msg']}") from e

    def filters(self) -> dict[str, list[str]]:
        """The `filters` parameter, {"name": ["value"]} or the older {"name": {"value": true}}."""
        return read_filters(self.query.get("filters", ""))


def read_filters(text: str) -> dict[str, list[str]]:
    """Parse a filters parameter. Raises InvalidInput."""
    if not text:
        return {}
    try:
        tree = read_json(text)
        if not isinstance(tree, dict):
            raise ValueError("not an object")
        return {key: _filter_values(value) for key, value in tree.items()}
    except (ValueError, RecursionError) as e:
        raise InvalidInput(f"invalid filter: cannot read {text[:200]!r}: {e}") from e


def _filter_values(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [str(key) for key, wanted in value.items() if wanted]
    if isinstance(value, list):
        return [str(item) for item in value]
    if isinstance(value, str):
        return [value]
    raise ValueError("values must be a list")


def parse_query(text: str) -> tuple[dict[str, str], dict[str, list[str]]]:
    """A query string as last values and as lists; blank values are kept."""
    if not text:
        return {}, {}
    lists = parse_qs(text, keep_blank_values=True, max_num_fields=1000)
    return {key: values[-1] for key, values in lists.items()}, lists


def ok(tree: Any, *, status: int = 200, headers: Headers = ()) -> Response:
    """A JSON answer, compact and newline-terminated as dockerd's."""
    return Response(status=status, body=dump(tree) + b"\n", headers=headers)


def dump(tree: Any) -> bytes:
    """Compact JSON, by pydantic's encoder: several times as fast as the standard library's."""
    return to_json(tree)


def not_modified() -> Response:
    """304: it is so already."""
    return Response(status=304)


def empty() -> Response:
    """200 without a body, as dockerd answers in a few places."""
    return Response()


def no_content() -> Response:
    """204."""
    return Response(status=204)
