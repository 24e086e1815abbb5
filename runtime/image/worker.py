"""The process that reads an archive into the store: hostile parsing, kept out of the agent."""

from __future__ import annotations

import resource
import sys
from typing import Any

from runtime.image import archive
from runtime.image.blobs import Blobs
from runtime.kernel import worker

_MEMORY = 1 << 30


def main() -> None:
    """Entry of the process; the request is `{do, store, path, …}`, with `fed` when the archive comes on stdin.

    Reports `{layer, size}` for each layer that is in the store.
    """
    worker.serve(_handle)


def _handle(request: dict[str, Any], report: worker.Report) -> list[tuple[str, dict[str, Any]]]:
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    blobs = Blobs(request["store"])
    stream = sys.stdin.buffer if request["fed"] else None
    if request["do"] == "import":
        target = archive.import_rootfs(blobs, request["path"], request["document"], stream)
        return [("", target.as_json())]

    def on_layer(digest: str, size: int) -> None:
        report({"layer": digest, "size": size})

    return [(name, target.as_json()) for name, target in archive.load(blobs, request["path"], stream, on_layer)]
