"""Hears from monitors whose log loses output, and tells: once when it begins, once when it is over."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable

from runtime.container import losses
from runtime.container.losses import Lost
from runtime.engine.hub import Hub
from runtime.kernel import inotify

_NONE = Lost(0, 0, "", still=False)


class LogWatch:
    """Publishes "log" events of type "daemon"; attribute `failures` is how many writes failed since the last."""

    def __init__(self, hub: Hub, run_dir: str, named: Callable[[str], str]) -> None:
        """`named` puts containers' names into a text in place of their ids."""
        self._hub, self._named = hub, named
        self._directory = losses.directory(run_dir)
        self._inotify = -1
        self._seen: dict[str, Lost] = {}

    def make(self) -> None:
        """Make the place where monitors note it; without one they note nothing."""
        with contextlib.suppress(OSError):
            os.makedirs(self._directory, mode=0o700, exist_ok=True)

    def look(self) -> None:
        """Watch from now on, again where the directory is a new one, and tell what there is by now."""
        self.make()
        try:
            if self._inotify < 0:
                self._inotify = inotify.instance()
                asyncio.get_running_loop().add_reader(self._inotify, self._changed)
            inotify.add(self._inotify, self._directory, inotify.MOVED_TO)
        except OSError:  # no watch to be had: the next look tells
            pass
        self._read()

    def alerts(self) -> list[str]:
        """Of logs that lose output now."""
        return [self._named(_text(id, lost)) for id, lost in self._seen.items() if lost.still]

    def close(self) -> None:
        """Watch no longer."""
        if self._inotify >= 0:
            asyncio.get_running_loop().remove_reader(self._inotify)
            os.close(self._inotify)
            self._inotify = -1

    def _changed(self) -> None:
        inotify.read(self._inotify)
        self._read()

    def _read(self) -> None:
        try:
            ids = [id for id in os.listdir(self._directory) if not id.endswith(".tmp")]
        except OSError:
            return
        for id in ids:
            if lost := losses.read(f"{self._directory}/{id}"):
                self._tell(id, lost)

    def _tell(self, id: str, lost: Lost) -> None:
        seen = self._seen.get(id, _NONE)
        if lost == seen:
            return
        self._seen[id] = lost
        more = max(lost.failures - seen.failures, 0)
        message = self._named(_text(id, lost))
        self._hub.publish("daemon", "log", "", {"message": message, "failures": str(more)})
        if not lost.still:
            self._unlink(id)

    def forget(self, id: str) -> None:
        """The container is gone."""
        self._seen.pop(id, None)
        self._unlink(id)

    def _unlink(self, id: str) -> None:
        try:
            os.unlink(f"{self._directory}/{id}")
        except OSError:
            pass


def _text(id: str, lost: Lost) -> str:
    if lost.still:
        return f"container {id}: its log loses output: {lost.error}"
    return f"container {id}: its log lost {lost.bytes} bytes in all, and loses no more: {lost.error}"
