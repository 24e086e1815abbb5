"""The process that downloads the blobs of one pull, several at a time; it may write to the store only."""

from __future__ import annotations

import resource
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from runtime.errors import TrueupError
from runtime.image.blobs import Blobs
from runtime.image.challenge import Credentials
from runtime.image.download import Download
from runtime.image.registry import Registry
from runtime.image.settings import Settings, from_json
from runtime.kernel import worker
from runtime.kernel.confine import confine

_MEMORY = 2 << 30
_REPORT_INTERVAL = 0.1


def main() -> None:
    """Entry; the request is `{store, settings, credentials, registry, repository, blobs: [[digest, size]]}`.

    Reports `{blob, current}`, and for each blob once `{blob, done}` or `{blob, failed: error}`.
    """
    worker.serve(_handle)


def _handle(request: dict[str, Any], report: worker.Report) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    settings = from_json(request["settings"])
    confine(keep=(), network=True)
    with ThreadPoolExecutor(settings.parallel) as pool:
        for digest, size in request["blobs"]:
            pool.submit(_fetch, request, settings, digest, size, report)


def _fetch(request: dict[str, Any], settings: Settings, digest: str, size: int, report: worker.Report) -> None:
    reported = 0.0

    def on_bytes(current: int) -> None:
        nonlocal reported
        if (now := time.monotonic()) - reported > _REPORT_INTERVAL:
            reported = now
            report({"blob": digest, "current": current})

    credentials = {name: Credentials(**value) for name, value in request["credentials"].items()}
    try:
        blobs = Blobs(request["store"])
        with Registry(settings, request["registry"], credentials) as registry:
            Download(blobs, settings, digest, size, on_bytes).run(registry, request["repository"])
        report({"blob": digest, "done": True})
        blobs.settle(digest)  # while it is unpacked
    except TrueupError as error:
        report({"blob": digest, "failed": worker.describe(error)})
    except Exception as error:  # a thread of a pool would swallow it
        report(
            {
                "blob": digest,
                "failed": {"type": "TrueupError", "message": f"cannot fetch {digest}: {error!r}", "hint": ""},
            }
        )
