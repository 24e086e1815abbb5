"""Images as `docker images`, `docker image inspect` and `docker history` show them."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from agent.engine_api.engine import familiar
from agent.engine_api.inspect_config import healthcheck_json
from agent.engine_api.label_filter import labels_fit
from agent.engine_api.text import parse_time, rfc3339
from agent.engine_api.versions import Version
from runtime.engine.model import Container, Image, ImageConfig
from runtime.errors import InvalidInput, NotFound

_FILTERS = {"before", "dangling", "label", "label!", "reference", "since", "until"}


def image_summary(image: Image, version: Version, containers: int) -> dict[str, Any]:
    """One entry of GET /images/json."""
    tags, digests = [familiar(t) for t in image.tags], [familiar(d) for d in image.digests]
    if version.has("untagged-none"):
        tags, digests = tags or ["<none>:<none>"], digests or ["<none>@<none>"]
    tree: dict[str, Any] = {
        "Containers": containers if version.has("image-containers-count") else -1,
        "Created": int(image.created_at),
        "Id": image.id,
        "Labels": dict(image.config.labels) or None,
        "ParentId": "",
        "RepoDigests": digests,
        "RepoTags": tags,
        "SharedSize": -1,
        "Size": image.size,
    }
    if version.has("virtual-size"):
        tree["VirtualSize"] = image.size
    if version.has("image-descriptor"):
        tree["Descriptor"] = _descriptor(image)
    return tree


def _descriptor(image: Image) -> dict[str, Any] | None:
    if not image.manifest_digest:
        return None
    media_type = "application/vnd.oci.image.manifest.v1+json"
    return {"mediaType": media_type, "digest": image.manifest_digest, "size": 0}


def image_inspect(image: Image, version: Version, *, made_of: Container | None = None) -> dict[str, Any]:
    """The body of GET /images/{name}/json; `made_of` is the container it was committed from."""
    tree: dict[str, Any] = {
        "Id": image.id,
        "RepoTags": [familiar(tag) for tag in image.tags],
        "RepoDigests": [familiar(digest) for digest in image.digests],
        "Parent": made_of.image_id if made_of else "",
        "Comment": image.comment,
        "Created": rfc3339(image.created_at),
        "DockerVersion": "",
        "Author": image.author,
        "Config": config_json(image.config, version),
        "Architecture": image.architecture,
        "Os": image.os,
        "Size": image.size,
        "GraphDriver": {"Data": None, "Name": "overlay2"},
        "RootFS": {"Type": "layers", "Layers": list(image.layers)},
        "Metadata": {"LastTagTime": rfc3339(0.0)},
    }
    if image.variant:
        tree["Variant"] = image.variant
    if version.has("virtual-size"):
        tree["VirtualSize"] = image.size
    if version.has("image-container-config"):
        shown = config_json(image.config if made_of else ImageConfig(), version)
        shown["Image"] = made_of.config.image if made_of else ""
        tree |= {"Container": made_of.id if made_of else "", "ContainerConfig": shown}
    if version.has("image-descriptor"):
        tree["Descriptor"] = _descriptor(image)
    if version.has("created-omitted") and not image.created_at:
        del tree["Created"]
    if not version.has("image-empty-fields"):
        for key in ("Parent", "Comment", "DockerVersion", "Author"):
            if not tree[key]:
                del tree[key]
    return tree


_RUNTIME_ONLY: dict[str, Any] = {
    "Hostname": "",
    "Domainname": "",
    "AttachStdin": False,
    "AttachStdout": False,
    "AttachStderr": False,
    "Tty": False,
    "OpenStdin": False,
    "StdinOnce": False,
    "Image": "",
}


def config_json(config: ImageConfig, version: Version) -> dict[str, Any]:
    """`Config` of an image; older clients also read fields that only containers have."""
    tree: dict[str, Any] = {
        "User": config.user,
        "ExposedPorts": {port: {} for port in config.exposed} or None,
        "Env": list(config.environment) or None,
        "Cmd": list(config.command) or None,
        "Healthcheck": healthcheck_json(config.healthcheck) if config.healthcheck else None,
        "Volumes": {volume: {} for volume in config.volumes} or None,
        "WorkingDir": config.working_dir,
        "Entrypoint": list(config.entrypoint) or None,
        "OnBuild": list(config.on_build) or None,
        "Labels": dict(config.labels) or None,
        "StopSignal": config.stop_signal,
        "Shell": list(config.shell) or None,
    }
    optional = {"ExposedPorts", "Healthcheck", "StopSignal", "Shell"}
    if not version.has("image-empty-fields"):
        optional = set(tree)
    tree = {key: value for key, value in tree.items() if value or key not in optional}
    return _RUNTIME_ONLY | tree if version.has("image-runtime-config") else tree


def history_json(image: Image) -> list[dict[str, Any]]:
    """The body of GET /images/{name}/history, newest first; only the top entry has an id."""
    tags = [familiar(tag) for tag in image.tags] or None
    entries = [
        {
            "Id": "<missing>",
            "Created": int(entry.created_at),
            "CreatedBy": entry.created_by,
            "Tags": None,
            "Size": entry.size,
            "Comment": entry.comment,
        }
        for entry in reversed(image.history)
    ]
    if not entries:
        return [
            {
                "Id": image.id,
                "Created": int(image.created_at),
                "CreatedBy": "",
                "Tags": tags,
                "Size": image.size,
                "Comment": image.comment,
            }
        ]
    return [entries[0] | {"Id": image.id, "Tags": tags}, *entries[1:]]


def image_matches(image: Image, ref: str) -> bool:
    """Whether `ref` (id, prefix, short or full name) means this image."""
    if image.id == ref or (len(ref) > 3 and image.id.removeprefix("sha256:").startswith(ref.removeprefix("sha256:"))):
        return True
    named = ref if "@" in ref or ":" in ref.rsplit("/", 1)[-1] else f"{ref}:latest"
    names = (*image.tags, *image.digests)
    return any(named in (name, familiar(name)) for name in names)


def reference_fits(name: str, pattern: str) -> bool:
    """A `reference` filter: a shell pattern over the short name, with or without its tag or digest."""
    short = familiar(name)
    bare = short.partition("@")[0] if "@" in short else short.rpartition(":")[0]
    return _path_fits(short, pattern) or _path_fits(bare, pattern)


def _path_fits(path: str, pattern: str) -> bool:
    """As Go's path.Match: a wildcard stays between two slashes."""
    parts, patterns = path.split("/"), pattern.split("/")
    return len(parts) == len(patterns) and all(map(fnmatch.fnmatchcase, parts, patterns))


class ImageSelection:
    """Which images a client asked to see."""

    def __init__(self, filters: Mapping[str, list[str]], images: tuple[Image, ...], now: float) -> None:
        if unknown := set(filters) - _FILTERS:
            raise InvalidInput(f"invalid filter '{sorted(unknown)[0]}'")
        self._filters = filters
        self._before = min((_created(images, r) for r in filters.get("before", ())), default=float("inf"))
        self._since = max((_created(images, r) for r in filters.get("since", ())), default=float("-inf"))
        self._until = min((parse_time(t, now=now) for t in filters.get("until", ())), default=float("inf"))
        self._references = filters.get("reference", ())
        self._dangling = [_truth(value) for value in filters.get("dangling", ())]

    def wants(self, image: Image) -> bool:
        """Whether every filter fits."""
        return (
            self._since < image.created_at < self._before
            and image.created_at <= self._until
            and (not self._dangling or self._dangling[0] is not bool(image.tags))
            and labels_fit(self._filters, image.config.labels)
            and (not self._references or bool(self._fitting(image.tags + image.digests)))
        )

    def shown(self, image: Image) -> Image:
        """`image` with the names that were asked for alone."""
        if not self._references:
            return image
        return replace(image, tags=self._fitting(image.tags), digests=self._fitting(image.digests))

    def _fitting(self, names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(name for name in names if any(reference_fits(name, pattern) for pattern in self._references))


def _created(images: tuple[Image, ...], ref: str) -> float:
    for image in images:
        if image_matches(image, ref):
            return image.created_at
    raise NotFound(f"No such image: {ref}")


def _truth(value: str) -> bool:
    if value.lower() not in ("1", "0", "true", "false"):
        raise InvalidInput(f"invalid filter 'dangling={value}'")
    return value.lower() in ("1", "true")


def users(containers: tuple[Container, ...]) -> dict[str, int]:
    """How many containers use each image id."""
    counts: dict[str, int] = {}
    for container in containers:
        counts[container.image_id] = counts.get(container.image_id, 0) + 1
    return counts
