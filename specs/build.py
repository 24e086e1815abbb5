"""`build` of a service: read here, handed on to the builder as it is."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import model_validator

from specs.file_object import FileReference
from specs.types import EMPTY, Boolean, Bytes, Integer, Labels, Model, StringMap


class Ulimit(Model):
    """One resource limit (man 2 getrlimit); -1 is unlimited."""

    soft: Integer
    hard: Integer

    @model_validator(mode="after")
    def _ordered(self) -> Ulimit:
        if min(self.soft, self.hard) < -1:
            raise ValueError("-1 is no limit, and nothing is less")
        if self.hard != -1 and (self.soft == -1 or self.soft > self.hard):
            raise ValueError("the soft limit is above the hard one")
        return self


class Build(Model):
    """How the service's image is built. `context` is an absolute path or a URL."""

    context: str = ""
    dockerfile: str | None = None
    dockerfile_inline: str | None = None
    args: Mapping[str, str | None] = EMPTY
    additional_contexts: StringMap = EMPTY
    labels: Labels = EMPTY
    cache_from: tuple[str, ...] = ()
    cache_to: tuple[str, ...] = ()
    no_cache: Boolean = False
    pull: Boolean = False
    target: str | None = None
    network: str | None = None
    shm_size: Bytes | None = None
    extra_hosts: Mapping[str, tuple[str, ...]] = EMPTY
    secrets: tuple[FileReference, ...] = ()
    tags: tuple[str, ...] = ()
    ulimits: Mapping[str, Ulimit] = EMPTY
    platforms: tuple[str, ...] = ()
