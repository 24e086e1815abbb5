"""The process that pushes one image: layers side by side, then configuration and manifests."""

from __future__ import annotations

import resource
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from runtime.image import manifest as m
from runtime.image.blobs import Blobs
from runtime.image.challenge import Credentials
from runtime.image.session import Session
from runtime.image.settings import endpoints, from_json
from runtime.image.upload import Target, Upload
from runtime.kernel import worker
from runtime.kernel.confine import confine

_MEMORY = 2 << 30
_REPORT_INTERVAL = 0.1


def main() -> None:
    """Entry; the request is `{store, settings, credentials, registry, repository, mounts, layers, configs,
    manifests: [[digest, media type, selector]]}`, lowest manifests first.

    Reports `{blob, current}` and `{blob, status}`.
    """
    worker.serve(_handle)


def _handle(request: dict[str, Any], report: worker.Report) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    confine(keep=(), network=True)
    push = _Push(request, report)
    with ThreadPoolExecutor(push.settings.parallel) as pool:
        list(pool.map(push.blob, request["layers"] + request["configs"]))
    push.manifests()


class _Push:
    """One push; each thread has a session of its own."""

    def __init__(self, request: dict[str, Any], report: worker.Report) -> None:
        self._request = request
        self._report = report
        self.settings = from_json(request["settings"])
        self._blobs = Blobs(request["store"])
        self._mine = threading.local()

    def blob(self, described: dict[str, Any]) -> None:
        blob = m.parse_descriptor(described, "push request")
        reported = 0.0

        def on_bytes(current: int) -> None:
            nonlocal reported
            if (now := time.monotonic()) - reported > _REPORT_INTERVAL:
                reported = now
                self._report({"blob": blob.digest, "current": current})

        status = self._upload().blob(blob, on_bytes)
        self._report({"blob": blob.digest, "status": status})

    def manifests(self) -> None:
        for digest, media_type, selector in self._request["manifests"]:
            self._upload().manifest(self._blobs.read(digest, m.MAX_JSON), media_type, selector)

    def _upload(self) -> Upload:
        if not hasattr(self._mine, "upload"):
            credentials = self._request["credentials"].get(self._request["registry"], {})
            place = endpoints(self.settings, self._request["registry"])[-1]  # never a mirror
            session = Session(self.settings, place, Credentials(**credentials))
            target = Target(repository=self._request["repository"], mounts=tuple(self._request["mounts"]))
            self._mine.upload = Upload(self._blobs, self.settings, session, target)
        found: Upload = self._mine.upload
        return found
