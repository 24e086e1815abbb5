"""Everything at one moment, and what happened since."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from runtime.engine.model.images import Image
from runtime.engine.model.networks import Network, Volume
from runtime.engine.model.seen import Container


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Everything the runtime holds at one moment."""

    taken_at: float
    containers: tuple[Container, ...] = ()
    images: tuple[Image, ...] = ()
    networks: tuple[Network, ...] = ()
    volumes: tuple[Volume, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened, in Docker's words: type "container", action "die", …"""

    time_ns: int
    type: Literal["container", "image", "network", "volume", "daemon", "project", "service", "file"]
    action: str
    id: str
    attributes: Mapping[str, str] = field(default_factory=dict)
