"""What a registry says about an image, without fetching it."""

from __future__ import annotations

from dataclasses import dataclass

from runtime.image import manifest as m
from runtime.image import platform as p
from runtime.image.reference import Reference
from runtime.image.registry import Registry


@dataclass(frozen=True, slots=True)
class Remote:
    """What a name points at there, and for which platforms it is."""

    target: m.Descriptor
    platforms: tuple[p.Platform, ...]


def describe(registry: Registry, name: Reference) -> Remote:
    """One or two small documents. Raises NotFound, Unauthorized, Forbidden, CorruptData, Unavailable, …"""
    data, target = registry.manifest(name.repository, name.selector)
    document = m.parse_document(data, name=str(name))
    if isinstance(document, m.Index):
        found = tuple(child.platform for child in document.manifests if child.platform)
        return Remote(target, found)
    config = registry.small_blob(name.repository, document.config)
    parsed = m.parse_config(config, layers=len(document.layers), name=f"configuration of {name.familiar}")
    return Remote(target, (parsed.platform,))
