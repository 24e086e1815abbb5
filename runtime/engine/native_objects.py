"""Volumes of the native runtime: thin, because the sibling does the work."""

from __future__ import annotations

import asyncio

from runtime.engine import views
from runtime.engine.model import Volume, VolumeConfig
from runtime.engine.native_images import NativeImages
from runtime.engine.record import Record
from runtime.engine.sizes import tree_size
from runtime.errors import Conflict, NotFound


class NativeObjects(NativeImages):
    """What is neither a container nor a network."""

    def _volume(self, name: str) -> Volume:
        return views.volume(self.volumes.get(name), self.volumes.path(name))

    async def create_volume(self, config: VolumeConfig) -> Volume:
        """A new volume, or the one that is there when it was asked for alike."""
        known = {record.name for record in self.volumes.list()}
        record = self.volumes.create(
            config.name,
            driver=config.driver,
            labels=dict(config.labels),
            options=dict(config.options),
            anonymous=config.anonymous,
        )
        if record.name not in known:
            self.hub.publish("volume", "create", record.name, {"driver": record.driver})
        return self._volume(record.name)

    async def volume_size(self, name: str) -> int:
        """Bytes in a volume."""
        return await asyncio.to_thread(tree_size, self._volume(name).mountpoint)

    async def remove_volume(self, name: str, *, force: bool = False) -> None:
        """Remove a volume nobody uses. `force` makes a missing one no error, as Docker has it."""
        users = [record.config.name for record in self._containers() if name in _volumes(record)]
        if users:
            raise Conflict(f"cannot remove volume {name}: containers use it: {', '.join(sorted(users))}")
        if lost := [record.config.name for record in self._containers() if record.unknown]:
            raise Conflict(
                f"cannot remove volume {name}: {', '.join(lost)}, whose record was lost, may use it",
                hint="remove that container first",
            )
        try:
            self.volumes.remove(name)
        except NotFound:
            if force:
                return
            raise
        self.hub.publish("volume", "destroy", name, {"driver": "local"})


def _volumes(record: Record) -> set[str]:
    return {mount.source for mount in record.mounts if mount.type == "volume"}
