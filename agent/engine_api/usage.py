"""Disk usage as /system/df counts it."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from agent.control import DiskUse, LayerUse
from agent.engine_api.engine import Engine
from agent.engine_api.image_view import image_summary, users
from agent.engine_api.summary import container_summary
from agent.engine_api.versions import Version
from agent.engine_api.volumes import volume_json, volume_users
from runtime.engine.model import Snapshot
from runtime.engine.protocol import Runtime
from runtime.errors import NotFound

KINDS = {"container", "image", "volume", "build-cache"}


async def disk_use(runtime: Runtime) -> DiskUse:
    """What images take, layer by layer."""
    storage, world = await runtime.storage(), await runtime.snapshot()
    sharers: dict[str, list[str]] = {}
    for image in world.images:
        for diff_id in dict.fromkeys(image.layers):
            sharers.setdefault(diff_id, []).append((*image.tags, image.id)[0])
    layers = tuple(
        LayerUse(diff_id=diff_id, size=size, images=tuple(sharers.get(diff_id, ())))
        for diff_id, size in storage.layers.items()
    )
    return DiskUse(layers=layers, blobs=storage.blobs, total=storage.total, used=storage.used)


async def disk_usage(engine: Engine, world: Snapshot, wanted: set[str], version: Version) -> dict[str, Any]:
    """The answer of /system/df; newer clients read the *Usage objects, older ones the lists."""
    layers = (await engine.runtime.storage()).layers
    images = _images(world, version, layers) if "image" in wanted else []
    containers = await _containers(engine, world, version) if "container" in wanted else []
    volumes = await _volumes(engine, world) if "volume" in wanted else []
    tree: dict[str, Any] = {}
    if version.has("df-legacy-lists"):
        tree |= {
            "LayersSize": sum(layers.values()),
            "Images": images,
            "Containers": containers,
            "Volumes": volumes,
            "BuildCache": [],
        }
        if not version.has("df-no-builder-size"):
            tree["BuilderSize"] = 0
    if version.has("df-usage-objects"):
        tree |= {
            "ImageUsage": _usage(images, [i for i in images if i["Containers"]], "Size"),
            "ContainerUsage": _usage(containers, [c for c in containers if c["State"] == "running"], "SizeRw"),
            "VolumeUsage": _usage(volumes, [v for v in volumes if v["UsageData"]["RefCount"]], "Size"),
            "BuildCacheUsage": _usage([], [], "Size"),
        }
    return tree


def _usage(everything: list[dict[str, Any]], active: list[dict[str, Any]], size: str) -> dict[str, Any]:
    def total(items: list[dict[str, Any]]) -> int:
        return sum(item.get(size) or item.get("UsageData", {}).get(size, 0) for item in items)

    return {
        "ActiveCount": len(active),
        "TotalCount": len(everything),
        "TotalSize": total(everything),
        "Reclaimable": total(everything) - total(active),
        "Items": everything,
    }


def _images(world: Snapshot, version: Version, layers: Mapping[str, int]) -> list[dict[str, Any]]:
    counts = users(world.containers)
    sharers = Counter(diff_id for image in world.images for diff_id in set(image.layers))
    trees = []
    for image in world.images:
        count = counts.get(image.id, 0)
        shared = sum(layers.get(diff_id, 0) for diff_id in set(image.layers) if sharers[diff_id] > 1)
        trees.append(image_summary(image, version, count) | {"Containers": count, "SharedSize": shared})
    return trees


async def _containers(engine: Engine, world: Snapshot, version: Version) -> list[dict[str, Any]]:
    now, mountpoints = time.time(), {v.name: v.mountpoint for v in world.volumes}
    images = {image.id: image.size for image in world.images}
    own = await sizes(engine.runtime.container_size, [c.id for c in world.containers])
    health = engine.control.health
    return [
        container_summary(c, health(c.id), version, now=now, mountpoints=mountpoints)
        | size_fields(own[c.id], images.get(c.image_id, 0))
        for c in world.containers
    ]


async def _volumes(engine: Engine, world: Snapshot) -> list[dict[str, Any]]:
    used = volume_users(world.containers)
    own = await sizes(engine.runtime.volume_size, [v.name for v in world.volumes])
    return [
        volume_json(v) | {"UsageData": {"RefCount": len(used.get(v.name, ())), "Size": own[v.name]}}
        for v in world.volumes
    ]


async def sizes(measure: Callable[[str], Awaitable[int]], names: Iterable[str]) -> dict[str, int]:
    """Bytes by name; what is gone by now has none."""

    async def one(name: str) -> int:
        try:
            return await measure(name)
        except NotFound:
            return 0

    listed = list(names)
    return dict(zip(listed, await asyncio.gather(*map(one, listed)), strict=True))


def size_fields(own: int, image: int) -> dict[str, int]:
    """A container's sizes: what it wrote, and that with its image; Docker leaves out zeros."""
    return {key: value for key, value in (("SizeRw", own), ("SizeRootFs", own + image)) if value}
