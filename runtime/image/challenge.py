"""Registry authentication: what a 401 asks for, and who may be shown credentials.

Credentials go to the registry they are for and to token services that belong to it: the same host, the same
site, or a host named in the settings. Without credentials any https token service may be asked, since it
learns nothing. Pure, but for the clock of token expiry, which the caller hands in.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field
from urllib.parse import urlencode, urlsplit

from runtime.errors import Forbidden
from runtime.image.settings import Endpoint, host_name, is_loopback

_SCHEME = re.compile(r"\s*([A-Za-z]+)(?:\s+|$)")
_PARAMETER = re.compile(r'\s*([A-Za-z_]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))\s*,?')


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """For one registry; `identity_token` or `registry_token` in place of a password where given."""

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    registry_token: str = field(default="", repr=False)

    def __bool__(self) -> bool:
        return bool(self.username or self.identity_token or self.registry_token)

    @property
    def basic(self) -> str:
        """The value of a Basic authorization header."""
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()


@dataclass(frozen=True, slots=True)
class Challenge:
    """One WWW-Authenticate challenge."""

    scheme: str  # lower case
    parameters: dict[str, str]


def parse(header: str) -> Challenge | None:
    """The first challenge we can answer, Bearer before Basic; None when there is none."""
    found: dict[str, Challenge] = {}
    at = 0
    while scheme := _SCHEME.match(header, at):
        at = scheme.end()
        parameters: dict[str, str] = {}
        while parameter := _PARAMETER.match(header, at):
            quoted, bare = parameter[2], parameter[3]
            parameters[parameter[1].lower()] = re.sub(r"\\(.)", r"\1", quoted) if bare is None else bare
            at = parameter.end()
        found.setdefault(scheme[1].lower(), Challenge(scheme[1].lower(), parameters))
    return found.get("bearer") or found.get("basic")


def token_url(challenge: Challenge, scope: str, account: str = "") -> str:
    """The address that hands out a token for `scope`."""
    realm = challenge.parameters.get("realm", "")
    query = {"service": challenge.parameters.get("service", ""), "scope": scope, "account": account}
    joiner = "&" if "?" in realm else "?"
    return realm + joiner + urlencode({key: value for key, value in query.items() if value})


def check_realm(challenge: Challenge, endpoint: Endpoint, credentials: Credentials) -> None:
    """Refuse a token service that must not see these credentials. Raises Forbidden."""
    realm = urlsplit(challenge.parameters.get("realm", ""))
    host = realm.netloc
    plain_is_fine = endpoint.options.insecure or is_loopback(endpoint.host)
    if realm.scheme not in ("http", "https") or not host or "@" in host:
        raise Forbidden(f"cannot log in to {endpoint.host}: its token service {realm.geturl()[:200]!r} is no address")
    if realm.scheme == "http" and not plain_is_fine:
        raise Forbidden(f"cannot log in to {endpoint.host}: its token service {host} is not https")
    if credentials and not _belongs(host_name(host), endpoint):
        raise Forbidden(
            f"cannot log in to {endpoint.host}: its token service {host} is another site's",
            hint="name it in the registry's token_realms if that is right",
        )


def _belongs(realm: str, endpoint: Endpoint) -> bool:
    own = host_name(endpoint.host)
    return realm == own or realm in endpoint.options.token_realms or (_site(realm) == _site(own) != "")


def _site(name: str) -> str:
    """The part of a name that one owner has, guessed on the careful side; "" for numbers and bare names."""
    labels = name.split(".")
    if len(labels) < 2 or labels[-1].isdigit() or ":" in name:
        return ""
    public = 2 if len(labels[-1]) == 2 and len(labels[-2]) <= 3 else 1  # co.uk, com.au
    return ".".join(labels[-1 - public :]) if len(labels) > public else ""
