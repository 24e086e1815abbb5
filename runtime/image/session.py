"""Requests to one registry endpoint: logs in when asked, follows redirects, waits when told to.

A session belongs to one thread. Credentials are sent to the endpoint's own origin and nowhere a redirect leads.
"""

from __future__ import annotations

import email.utils
import json
import os
import random
import re
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from urllib.parse import urlencode, urljoin, urlsplit

from runtime.errors import (
    Forbidden,
    InvalidInput,
    NotFound,
    TrueupError,
    Unauthorized,
    Unavailable,
)
from runtime.image import challenge as c
from runtime.image.http import Body, Connections, Response
from runtime.image.settings import Endpoint, RegistryHost, Settings, is_loopback

_REDIRECTS = (301, 302, 303, 307, 308)
_MAX_REDIRECTS = 5
_MAX_WAIT = 300.0
_MAX_TOKEN = 1 << 20
_BUSY = (408, 425, 429, 500, 502, 503, 504)


class Session:
    """HTTP with one endpoint for one thread. `sleep` and `now` are the clock."""

    def __init__(
        self,
        settings: Settings,
        endpoint: Endpoint,
        credentials: c.Credentials,
        *,
        sleep: Callable[[float], None] = time.sleep,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self.endpoint = endpoint
        self._credentials = credentials
        self._sleep, self._now = sleep, now
        self._connections = Connections(settings)
        self._scheme = ""
        self._basic = False
        self._tokens: dict[str, tuple[str, float]] = {}

    def request(
        self,
        method: str,
        path: str,
        *,
        scope: str,
        headers: Mapping[str, str] | None = None,
        body: Body = None,
        ok: tuple[int, ...] = (200,),
        retry: bool = True,
    ) -> Response:
        """Ask `path` (below the endpoint, or a full address it gave us) for something.

        `scope` is what a token must allow ("repository:NAME:pull"). Statuses in `ok` are returned, others
        raised: Unauthorized, Forbidden, NotFound, InvalidInput, Unavailable.
        """
        attempt = 0
        while True:
            try:
                response = self._authorized(method, path, scope, headers or {}, body)
                if response.status in ok:
                    return response
                error = self._error(response, method, path)
            except Unavailable as failure:
                error, response = failure, None
            attempt += 1
            if not (retry and isinstance(error, Unavailable) and attempt < self._settings.attempts):
                raise error
            self._sleep(self.pause(attempt, response))

    def document(
        self,
        path: str,
        *,
        scope: str,
        limit: int,
        headers: Mapping[str, str] | None = None,
        ok: tuple[int, ...] = (200,),
    ) -> tuple[Response, bytes]:
        """A small answer and all of its body; one that breaks off is asked for again. Raises CorruptData, …"""
        attempt = 0
        while True:
            response = self.request("GET", path, scope=scope, headers=headers, ok=ok)
            try:
                return response, response.read(limit)
            except TrueupError as error:
                self.drop(response)
                attempt += 1
                if not isinstance(error, Unavailable) or attempt >= self._settings.attempts:
                    raise
            self._sleep(self.pause(attempt))

    def pause(self, attempt: int, response: Response | None = None) -> float:
        """Seconds to wait before the next try: what the registry says, else doubling with jitter."""
        told = retry_after(response.headers.get("retry-after", "")) if response else None
        if told is not None:
            return min(told, _MAX_WAIT)
        return min(float(self._settings.backoff * 2 ** (attempt - 1)), _MAX_WAIT) * random.uniform(0.5, 1.5)

    def drop(self, response: Response) -> None:
        """Give up an answer that was not read to its end."""
        self._connections.drop(response.url)

    def close(self) -> None:
        self._connections.close()

    # ------------------------------------------------------------ one try

    def _authorized(self, method: str, path: str, scope: str, headers: Mapping[str, str], body: Body) -> Response:
        response = self._follow(method, path, scope, headers, body)
        if response.status != 401:
            return response
        self._answer(response, scope)
        return self._follow(method, path, scope, headers, body)

    def _follow(self, method: str, path: str, scope: str, headers: Mapping[str, str], body: Body) -> Response:
        url = self._url(path)
        for _ in range(_MAX_REDIRECTS):
            sent = {"User-Agent": "trueup", "Accept-Encoding": "identity", **headers, **self._auth(url, scope)}
            response = self._connections.request(method, url, sent, self._options(url), body)
            if response.status not in _REDIRECTS or method not in ("GET", "HEAD"):
                return response
            self.finish(response)
            url = self._redirected(url, response.headers.get("location", ""))
        raise Unavailable(f"cannot use {self.endpoint.host}: more than {_MAX_REDIRECTS} redirects")

    def _url(self, path: str) -> str:
        if "://" in path:
            return path
        return f"{self._known_scheme()}://{self.endpoint.host}{self.endpoint.prefix}{path}"

    def _known_scheme(self) -> str:
        """https where it answers; http only for endpoints that may be plain."""
        if not self._scheme:
            self._scheme = self.endpoint.schemes[0]
            if len(self.endpoint.schemes) > 1:
                self._scheme = self._probe()
        return self._scheme

    def _probe(self) -> str:
        """A registry that may be plain is asked in TLS first; one that speaks TLS badly is not asked in plain."""
        url = f"https://{self.endpoint.host}{self.endpoint.prefix}/v2/"
        try:
            self.finish(self._connections.request("GET", url, {}, self._tls_options()))
            return "https"
        except Unavailable as error:
            if isinstance(error.__cause__, ssl.SSLCertVerificationError):
                raise
            return "http"

    def _redirected(self, url: str, location: str) -> str:
        target = urljoin(url, location)
        if not location or urlsplit(target).scheme not in ("http", "https"):
            raise Unavailable(f"cannot follow {self.endpoint.host}: a redirect to nowhere")
        if url.startswith("https:") and target.startswith("http:") and "http" not in self.endpoint.schemes:
            raise Forbidden(f"cannot follow {self.endpoint.host}: it redirects from https to plain http")
        return target

    def _own(self, url: str) -> bool:
        parts = urlsplit(url)
        return parts.netloc == self.endpoint.host and parts.scheme == self._known_scheme()

    def _options(self, url: str) -> RegistryHost:
        """An endpoint's TLS settings are for its own origin."""
        return self._tls_options() if self._own(url) else RegistryHost()

    def _tls_options(self) -> RegistryHost:
        """This machine's own registries need no authority, unless one was named."""
        options = self.endpoint.options
        trusted = options.ca_file or os.path.isdir(os.path.join(self._settings.certs_dir, self.endpoint.host))
        return replace(options, insecure=True) if is_loopback(self.endpoint.host) and not trusted else options

    # ------------------------------------------------------------ logging in

    def _auth(self, url: str, scope: str) -> dict[str, str]:
        if not self._own(url):
            return {}
        if self._credentials.registry_token:
            return {"Authorization": f"Bearer {self._credentials.registry_token}"}
        if self._basic:
            return {"Authorization": self._credentials.basic}
        token, expires = self._tokens.get(scope, ("", 0.0))
        return {"Authorization": f"Bearer {token}"} if token and self._now() < expires else {}

    def _answer(self, response: Response, scope: str) -> None:
        """Get what the challenge asks for. Raises Unauthorized when we have nothing (new) to show."""
        asked = c.parse(response.headers.get("www-authenticate", ""))
        reason = self._reason(response)
        tried = self._basic or bool(self._credentials.registry_token)
        if asked is None or tried or not self._own(response.url):
            raise Unauthorized(f"cannot log in to {self.endpoint.registry}: {reason or 'access denied'}")
        if asked.scheme == "basic":
            if not self._credentials.username:
                raise Unauthorized(
                    f"cannot use {self.endpoint.registry}: it wants a login",
                    hint=f"docker login {self.endpoint.registry}",
                )
            self._basic = True
            return
        c.check_realm(asked, self.endpoint, self._credentials)
        self._tokens[scope] = self._fetch_token(asked, scope)

    def _fetch_token(self, asked: c.Challenge, scope: str) -> tuple[str, float]:
        url = c.token_url(asked, scope, self._credentials.username)
        headers = {"User-Agent": "trueup", "Accept-Encoding": "identity"}
        if self._credentials.identity_token:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
            form = {
                "grant_type": "refresh_token",
                "refresh_token": self._credentials.identity_token,
                "service": asked.parameters.get("service", ""),
                "scope": scope,
                "client_id": "trueup",
            }
            realm = asked.parameters["realm"]
            response = self._connections.request("POST", realm, headers, self._options(realm), urlencode(form).encode())
        else:
            if self._credentials.username:
                headers["Authorization"] = self._credentials.basic
            response = self._connections.request("GET", url, headers, self._options(url))
        if response.status != 200:
            raise self._error(response, "GET", "its token service")
        return self._read_token(response)

    def _read_token(self, response: Response) -> tuple[str, float]:
        try:
            document = json.loads(response.read(_MAX_TOKEN))
            token = document.get("token") or document["access_token"]
            lifetime = float(document.get("expires_in") or 60)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise Unauthorized(f"cannot log in to {self.endpoint.registry}: no token in the answer") from error
        if not isinstance(token, str) or not re.fullmatch(r"[!-~]+", token):
            raise Unauthorized(f"cannot log in to {self.endpoint.registry}: the token is not text")
        return token, self._now() + max(lifetime - 10, 5)

    # ------------------------------------------------------------ errors

    def _error(self, response: Response, method: str, path: str) -> TrueupError:
        what = f"cannot {_VERBS.get(method, method)} {path.removeprefix('/v2/')} at {self.endpoint.host}"
        reason = self._reason(response) or f"status {response.status}"
        if response.status == 401:
            return Unauthorized(f"{what}: {reason}", hint=f"docker login {self.endpoint.registry}")
        if response.status == 403:
            return Forbidden(f"{what}: {reason}")
        if response.status in (404, 410):
            return NotFound(f"{what}: {reason}")
        if response.status in _BUSY:
            hint = "the registry limits how often it may be asked" if response.status == 429 else ""
            return Unavailable(f"{what}: {reason}", hint=hint)
        return InvalidInput(f"{what}: {reason}")

    def _reason(self, response: Response) -> str:
        """What the registry says went wrong: bounded, printable, one line."""
        try:
            first = json.loads(self.finish(response))["errors"][0]
            text = f"{first.get('code', '')} {first.get('message', '')}"
        except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
            return ""
        return "".join(char for char in text if char.isprintable()).strip()[:200]

    def finish(self, response: Response) -> bytes:
        """The rest of a short answer; the connection is given up when it is not short or not whole."""
        try:
            return response.read(65536)
        except TrueupError:
            self.drop(response)
            return b""


_VERBS = {"GET": "get", "HEAD": "get", "POST": "push", "PUT": "push", "PATCH": "push", "DELETE": "delete"}


def retry_after(value: str) -> float | None:
    """Seconds of a Retry-After header, None when it says nothing."""
    if value.strip().isdigit():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError):
        return None
