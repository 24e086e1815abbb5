"""The distribution API (OCI 1.1, Docker v2) for one registry name: manifests, tags, referrers, blobs.

Mirrors are tried first and the registry itself last; what a mirror lacks or refuses is asked of the next.
A `Registry` belongs to one thread.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TypeVar

from runtime.errors import CorruptData, InvalidInput, NotFound, TrueupError
from runtime.image import manifest as m
from runtime.image import reference as r
from runtime.image.blobs import hash_of
from runtime.image.challenge import Credentials
from runtime.image.http import Response
from runtime.image.session import Session
from runtime.image.settings import Settings, endpoints

Result = TypeVar("Result")
_MAX_PAGES = 1000
_NEXT = re.compile(r'<([^>]+)>\s*;\s*rel="?next"?')


class Registry:
    """What can be asked of a registry. `credentials` are by registry name: mirrors have their own."""

    def __init__(self, settings: Settings, name: str, credentials: Mapping[str, Credentials]) -> None:
        self.name = name
        self.sessions = [
            Session(settings, endpoint, credentials.get(endpoint.registry, Credentials()))
            for endpoint in endpoints(settings, name)
        ]

    def __enter__(self) -> Registry:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        for session in self.sessions:
            session.close()

    def check(self) -> None:
        """Ask the registry itself for nothing but leave. Raises Unauthorized, Forbidden, Unavailable."""
        session = self.sessions[-1]
        session.finish(session.request("GET", "/v2/", scope="", retry=False))

    def digest(self, repository: str, selector: str) -> str:
        """What a tag or digest points at now; one HEAD. "" when the registry does not say. Raises NotFound …"""

        def head(session: Session) -> str:
            response = session.request(
                "HEAD", _manifest_path(repository, selector), scope=pull_scope(repository), headers=_ACCEPT
            )
            said = response.headers.get("docker-content-digest", "")
            return said if r.is_digest(said) else ""

        return self._anywhere(head)

    def manifest(self, repository: str, selector: str) -> tuple[bytes, m.Descriptor]:
        """The bytes of a manifest or index and its descriptor. A digest is checked. Raises CorruptData, …"""

        def get(session: Session) -> tuple[bytes, m.Descriptor]:
            path = _manifest_path(repository, selector)
            response, data = session.document(path, scope=pull_scope(repository), limit=m.MAX_JSON, headers=_ACCEPT)
            return data, self._describe(data, response, repository, selector)

        return self._anywhere(get)

    def small_blob(self, repository: str, blob: m.Descriptor) -> bytes:
        """A blob of at most 4 MiB, checked. Raises CorruptData, …"""

        def get(session: Session) -> bytes:
            path = f"/v2/{repository}/blobs/{blob.digest}"
            _, data = session.document(path, scope=pull_scope(repository), limit=m.MAX_JSON)
            if len(data) != blob.size or hash_of(data) != blob.digest:
                raise CorruptData(f"cannot use blob {blob.digest} of {self.name}/{repository}: wrong content")
            return data

        return self._anywhere(get)

    def tags(self, repository: str) -> tuple[str, ...]:
        """All tags of a repository."""
        return self._anywhere(lambda session: self._list_tags(session, repository))

    def referrers(self, repository: str, digest: str) -> tuple[m.Descriptor, ...]:
        """What refers to a manifest (signatures, attestations); empty where the registry has no such list."""

        def get(session: Session) -> tuple[m.Descriptor, ...]:
            path = f"/v2/{repository}/referrers/{digest}"
            scope = pull_scope(repository)
            try:
                _, data = session.document(path, scope=scope, limit=m.MAX_JSON, headers={"Accept": m.OCI_INDEX})
            except (NotFound, InvalidInput):
                fallback = _manifest_path(repository, digest.replace(":", "-"))
                response, data = session.document(
                    fallback, scope=scope, limit=m.MAX_JSON, headers=_ACCEPT, ok=(200, 404)
                )
                if response.status == 404:
                    return ()
            document = m.parse_document(data, name=f"referrers of {digest}")
            return document.manifests if isinstance(document, m.Index) else ()

        return self._anywhere(get)

    def _list_tags(self, session: Session, repository: str) -> tuple[str, ...]:
        found: list[str] = []
        path = f"/v2/{repository}/tags/list?n=1000"
        for _ in range(_MAX_PAGES):
            response, data = session.document(path, scope=pull_scope(repository), limit=m.MAX_JSON)
            document = m.load_object(data, f"tags of {repository}")
            found += [tag for tag in document.get("tags") or [] if isinstance(tag, str)]
            following = _NEXT.search(response.headers.get("link", ""))
            if not following or not following[1].startswith("/v2/"):
                break
            path = following[1]
        return tuple(found)

    def _anywhere(self, ask: Callable[[Session], Result]) -> Result:
        """The first endpoint that answers; the registry's own error when none does."""
        for session in self.sessions[:-1]:
            try:
                return ask(session)
            except TrueupError:
                continue  # a mirror only ever helps
        return ask(self.sessions[-1])

    def _describe(self, data: bytes, response: Response, repository: str, selector: str) -> m.Descriptor:
        digest = hash_of(data)
        name = f"{self.name}/{repository}"
        if r.is_digest(selector) and selector != digest:
            raise CorruptData(f"cannot use {name}@{selector}: the registry sent {digest}")
        said = response.headers.get("docker-content-digest", "")
        if r.is_digest(said) and said != digest:
            raise CorruptData(f"cannot use {name}:{selector}: the registry calls {digest} {said}")
        announced = response.headers.get("content-type", "").partition(";")[0].strip()
        document = m.parse_document(data, media_type=announced, name=f"{name}:{selector}")
        return m.Descriptor(media_type=document.media_type, digest=digest, size=len(data))


def pull_scope(repository: str) -> str:
    """What a token must allow to read."""
    return f"repository:{repository}:pull"


def _manifest_path(repository: str, selector: str) -> str:
    return f"/v2/{repository}/manifests/{selector}"


_ACCEPT = {"Accept": m.ACCEPT}
