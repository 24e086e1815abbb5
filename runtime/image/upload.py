"""Send one image to a registry: blobs it lacks, then manifests, the name last.

A blob the registry has is not sent; one it has in another repository is mounted from there. A broken upload
goes on where the registry says it stopped. Blocking; runs in the push worker.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode, urljoin

from runtime.errors import NotFound, TrueupError, Unavailable
from runtime.image import manifest as m
from runtime.image.blobs import Blobs
from runtime.image.http import Response
from runtime.image.session import Session
from runtime.image.settings import Settings

_PIECE = 1 << 18
_UPLOADS = 3
_RANGE = re.compile(r"(?:bytes=)?0-(\d+)")

OnBytes = Callable[[int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The repository to push to; `mounts` are repositories of the same registry that may have the blobs."""

    repository: str
    mounts: tuple[str, ...] = ()

    @property
    def scope(self) -> str:
        """What a token must allow."""
        own = f"repository:{self.repository}:pull,push"
        return " ".join([own, *(f"repository:{name}:pull" for name in self.mounts)])


class Upload:
    """Pushes to one registry through one session."""

    def __init__(self, blobs: Blobs, settings: Settings, session: Session, target: Target) -> None:
        self._blobs = blobs
        self._settings = settings
        self._session = session
        self._target = target

    def blob(self, blob: m.Descriptor, on_bytes: OnBytes) -> str:
        """Make the registry have a blob; how: "Layer already exists", "Mounted from NAME" or "Pushed"."""
        if not self._blobs.has(blob.digest):
            raise NotFound(f"cannot push: blob {blob.digest} is not in the store", hint="pull the image again")
        if self._has(blob.digest):
            return "Layer already exists"
        for attempt in range(_UPLOADS):
            response, mounted = self._begin(blob.digest)
            if mounted:
                return f"Mounted from {mounted}"
            try:
                self._send(self._location(response, self._uploads()), blob, on_bytes)
                break
            except NotFound:  # the registry forgot the upload, or finished it and its answer was lost
                if self._has(blob.digest):
                    break
                if attempt == _UPLOADS - 1:
                    raise
        return "Pushed"

    def manifest(self, data: bytes, media_type: str, selector: str) -> None:
        """Store a manifest under a tag or its digest."""
        path = f"/v2/{self._target.repository}/manifests/{selector}"
        self._ask("PUT", path, headers={"Content-Type": media_type}, body=data, ok=(200, 201, 202))

    def _has(self, digest: str) -> bool:
        path = f"/v2/{self._target.repository}/blobs/{digest}"
        return self._ask("HEAD", path, ok=(200, 404)).status == 200

    def _uploads(self) -> str:
        return f"/v2/{self._target.repository}/blobs/uploads/"

    def _begin(self, digest: str) -> tuple[Response, str]:
        """An upload to send to, or the repository it was mounted from."""
        for source in self._target.mounts:
            query = urlencode({"mount": digest, "from": source})
            try:
                response = self._ask("POST", f"{self._uploads()}?{query}", body=b"", ok=(201, 202))
            except TrueupError:
                continue  # mounting is a favour; sending always works
            return response, source if response.status == 201 else ""
        return self._ask("POST", self._uploads(), body=b"", ok=(202,)), ""

    def _send(self, location: str, blob: m.Descriptor, on_bytes: OnBytes) -> None:
        failures, sent = 0, 0
        while sent < blob.size or blob.size == 0:
            try:
                location = self._patch(location, blob, sent, on_bytes)
                break
            except Unavailable:
                before, failures = sent, failures + 1
                sent, location = self._reached(location)
                failures = 0 if sent > before else failures
                if failures >= self._settings.attempts:
                    raise
                time.sleep(self._session.pause(max(1, failures)))
        joiner = "&" if "?" in location else "?"
        self._ask("PUT", f"{location}{joiner}{urlencode({'digest': blob.digest})}", body=b"", ok=(201, 204))

    def _patch(self, location: str, blob: m.Descriptor, start: int, on_bytes: OnBytes) -> str:
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Length": str(blob.size - start),
            "Content-Range": f"{start}-{max(start, blob.size - 1)}",
        }
        body = self._read(blob, start, on_bytes)
        response = self._ask("PATCH", location, headers=headers, body=body, ok=(200, 202, 204), retry=False)
        return self._location(response, location)

    def _read(self, blob: m.Descriptor, start: int, on_bytes: OnBytes) -> Iterator[bytes]:
        with open(self._blobs.path(blob.digest), "rb") as file:
            file.seek(start)
            while data := file.read(_PIECE):
                yield data
                on_bytes(file.tell())

    def _reached(self, location: str) -> tuple[int, str]:
        """How many bytes of an upload the registry has, and where to go on."""
        response = self._ask("GET", location, ok=(202, 204))
        found = _RANGE.fullmatch(response.headers.get("range", ""))
        reached = int(found[1]) + 1 if found else 0
        return (0 if reached == 1 else reached), self._location(response, location)

    def _location(self, response: Response, before: str) -> str:
        where = response.headers.get("location", "")
        return urljoin(response.url, where) if where else before

    def _ask(
        self,
        method: str,
        path: str,
        *,
        ok: Sequence[int],
        headers: dict[str, str] | None = None,
        body: bytes | Iterator[bytes] | None = None,
        retry: bool = True,
    ) -> Response:
        response = self._session.request(
            method, path, scope=self._target.scope, headers=headers, body=body, ok=tuple(ok), retry=retry
        )
        self._session.finish(response)
        return response
