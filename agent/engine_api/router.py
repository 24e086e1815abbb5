"""Method and path to handler: a table of patterns, matched literally first and then in order.

`{name}` takes one path segment, `{name:path}` any number (image names contain slashes).
Paths may begin with `/v1.NN`; the version is checked here and handed on.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from urllib.parse import unquote

from agent.engine_api.errors import ApiError
from agent.engine_api.message import Answer, Request
from agent.engine_api.versions import NEWEST, Version, parse

_VERSIONED = re.compile(r"/v(\d+\.\d+)(/.*)")

Handler = Callable[..., Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Route:
    """One operation: `handler(request, **path parameters)`."""

    method: str
    pattern: str
    handler: Handler


class Router:
    """All routes of the server."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self.routes = tuple(routes)
        self._fixed = {(r.method, r.pattern): r for r in self.routes if "{" not in r.pattern}
        self._by_segment: dict[tuple[str, str], list[tuple[re.Pattern[str], Route]]] = {}
        for route in self.routes:
            if "{" in route.pattern:
                key = (route.method, _first_segment(route.pattern))
                self._by_segment.setdefault(key, []).append((_compile(route.pattern), route))

    async def dispatch(self, request: Request) -> Answer:
        """Run the handler of the request's path. Raises ApiError 404 or 405 where there is none."""
        route, parameters = self.find(request.method, request.path)
        return await route.handler(request, **parameters)

    def find(self, method: str, path: str) -> tuple[Route, dict[str, str]]:
        """The route and its decoded path parameters. HEAD falls back to GET."""
        found = self._find(method, path)
        if found is None and method == "HEAD":
            found = self._find("GET", path)
        if found is not None:
            return found
        others = {"GET", "POST", "PUT", "DELETE"} - {method}
        if any(self._find(other, path) for other in others):
            raise ApiError(405, f"cannot {method} {path}: the method is not allowed here")
        raise ApiError(404, "page not found")

    def _find(self, method: str, path: str) -> tuple[Route, dict[str, str]] | None:
        fixed = self._fixed.get((method, path))
        if fixed is not None:
            return fixed, {}
        for pattern, route in self._by_segment.get((method, _first_segment(path)), ()):
            match = pattern.fullmatch(path)
            if match is not None:
                return route, {name: unquote(value) for name, value in match.groupdict().items()}
        return None


def split_version(path: str) -> tuple[Version, str]:
    """(API version, rest of the path). Raises InvalidInput for a version we do not speak."""
    match = _VERSIONED.fullmatch(path)
    return (parse(match[1]), match[2]) if match else (NEWEST, path)


def _first_segment(path: str) -> str:
    return path.split("/", 2)[1]


def _compile(pattern: str) -> re.Pattern[str]:
    parts = re.split(r"(\{[^}]+\})", pattern)
    return re.compile("".join(_part(part) for part in parts))


def _part(part: str) -> str:
    if not part.startswith("{"):
        return re.escape(part)
    name, _, kind = part[1:-1].partition(":")
    return f"(?P<{name}>.+)" if kind == "path" else f"(?P<{name}>[^/]+)"
