"""Unpacked layers on disk: `LAYERS/sha256/<diff id>/diff`, shared read-only by every container.

A layer exists if and only if its final directory exists. It is made under `tmp/` and renamed when it is whole, and
renamed back to there when it goes: `clear()` removes its files, and whatever `recover()` finds in `tmp/`. A container
may start from a layer before the disk has it all: until `settle()` a marker in the layer names the boot it was made
in, and `recover()` after a power cut removes what is marked with another boot. Its blob is still there to be unpacked
again.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
import uuid
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from runtime.errors import InvalidInput, NotFound, Unavailable
from runtime.kernel.at import spread, syncfs
from runtime.kernel.process import boot_id

_MARKER = "unsettled"
_DIFF_ID = re.compile(r"sha256:([0-9a-f]{64})")


class LayerStore:
    """The layers below one directory. All calls are quick but `discard`, `clear` and `settle`."""

    def __init__(self, root: str) -> None:
        self.root = root
        self._final = os.path.join(root, "sha256")
        self._tmp = os.path.join(root, "tmp")
        self._rubbish: deque[str] = deque()
        self._sizes: dict[str, int] = {}  # of layers that are there: every look at the images asks for all of them

    def recover(self) -> None:
        """Make the directories, make rubbish of what a crash left. Call once, under the data root's lock."""
        for path in (self._final, self._tmp):
            os.makedirs(path, mode=0o700, exist_ok=True)
        spread(self._tmp)
        self._rubbish.extend(os.path.join(self._tmp, name) for name in os.listdir(self._tmp))
        for diff_id in self.diff_ids():
            if self._made_in(diff_id) not in (None, boot_id()):
                self.remove(diff_id)

    def settle(self) -> None:
        """Wait until all layers there are now are on the disk. Raises Unavailable."""
        unsettled = [diff_id for diff_id in self.diff_ids() if self._made_in(diff_id) is not None]
        try:
            with _directory(self._final) as final:
                syncfs(final)
            for diff_id in unsettled:
                os.unlink(self._marker(diff_id))
        except FileNotFoundError:
            return  # removed meanwhile
        except OSError as error:
            raise self._refused("write layers", error) from error

    def path(self, diff_id: str) -> str:
        """Where the files of a layer are, whether it exists or not."""
        return os.path.join(self._final, _hex(diff_id), "diff")

    def exists(self, diff_id: str) -> bool:
        """Whether the layer is unpacked and whole."""
        return os.path.isdir(os.path.join(self._final, _hex(diff_id)))

    def lowerdirs(self, diff_ids: Sequence[str]) -> tuple[str, ...]:
        """Overlay's `lowerdir` list, topmost first, for layers given lowest first (as images list them).

        What lies below a layer whose root is opaque is left out. Raises NotFound for a missing layer.
        """
        found: list[str] = []
        for diff_id in reversed(diff_ids):
            if not self.exists(diff_id):
                raise NotFound(f"cannot find layer {diff_id} unpacked", hint="pull or load the image again")
            path = self.path(diff_id)
            if path not in found:
                found.append(path)
            if self._is_opaque(path):
                break
        return tuple(found)

    def size(self, diff_id: str) -> int:
        """Bytes of file content in a layer, as counted when it was unpacked."""
        if diff_id not in self._sizes:
            try:
                with open(os.path.join(self._final, _hex(diff_id), "layer.json"), "rb") as file:
                    self._sizes[diff_id] = int(json.load(file)["size"])
            except (FileNotFoundError, ValueError):
                return 0  # a power cut took it; it is only for show
        return self._sizes[diff_id]

    def diff_ids(self) -> tuple[str, ...]:
        """All layers there are."""
        return tuple(sorted(f"sha256:{name}" for name in os.listdir(self._final)))

    def prepare(self) -> str:
        """A private directory to unpack into; hand it to `commit` or `discard`."""
        try:
            path = os.path.join(self._tmp, uuid.uuid4().hex)
            os.makedirs(os.path.join(path, "diff"), mode=0o755)
        except OSError as error:
            raise self._refused("make a directory for a layer", error) from error
        return path

    def commit(self, prepared: str, diff_id: str, *, size: int, entries: int) -> None:
        """Make the layer visible, not settled yet. An existing one is kept: what was prepared is rubbish then."""
        try:
            with open(os.path.join(prepared, "layer.json"), "w", encoding="utf-8") as file:
                json.dump({"size": size, "entries": entries}, file)
            with open(os.path.join(prepared, _MARKER), "w", encoding="utf-8") as file:
                file.write(boot_id())
            os.rename(prepared, os.path.join(self._final, _hex(diff_id)))
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise self._refused(f"store layer {diff_id}", error) from error
            self._rubbish.append(prepared)

    def discard(self, prepared: str) -> None:
        """Remove what `prepare` made and everything in it."""
        shutil.rmtree(prepared, ignore_errors=True)

    def remove(self, diff_id: str) -> int:
        """Remove a layer: it vanishes at once, its files are rubbish; returns its size."""
        size = self.size(diff_id)
        grave = os.path.join(self._tmp, uuid.uuid4().hex)
        try:
            os.rename(os.path.join(self._final, _hex(diff_id)), grave)
        except FileNotFoundError:
            return 0
        finally:
            self._sizes.pop(diff_id, None)
        self._rubbish.append(grave)
        return size

    def gc(self, keep: Collection[str]) -> int:
        """Remove every layer not in `keep`; returns the bytes that `clear` will give back."""
        return sum(self.remove(diff_id) for diff_id in self.diff_ids() if diff_id not in keep)

    def clear(self) -> None:
        """Remove all rubbish there is by now; what cannot be removed is found by the next `recover`."""
        with contextlib.suppress(IndexError):  # there is no more, or it has been left
            while True:
                shutil.rmtree(self._rubbish.popleft(), ignore_errors=True)

    def leave_rubbish(self) -> None:
        """Let `clear` end after the layer it is at; the next `recover` finds the others."""
        self._rubbish.clear()

    def _marker(self, diff_id: str) -> str:
        return os.path.join(self._final, _hex(diff_id), _MARKER)

    def _made_in(self, diff_id: str) -> str | None:
        """The boot an unsettled layer was made in, None for a settled one."""
        try:
            with open(self._marker(diff_id), encoding="utf-8", errors="replace") as file:
                return file.read()
        except FileNotFoundError:
            return None

    def _is_opaque(self, path: str) -> bool:
        try:
            return os.getxattr(path, "trusted.overlay.opaque") == b"y"
        except OSError:
            return False

    def _refused(self, what: str, error: OSError) -> Unavailable:
        hint = "free some space: trueup system prune" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
        return Unavailable(f"cannot {what} in {self.root}: {error.strerror}", hint=hint)


def _hex(diff_id: str) -> str:
    found = _DIFF_ID.fullmatch(diff_id)
    if not found:
        raise InvalidInput(f"cannot use {diff_id!r} as a layer: not a sha256 digest")
    return found[1]


@contextlib.contextmanager
def _directory(path: str | Path) -> Iterator[int]:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)
