"""Configs and secrets: small files that a project declares once and services mount.

The bytes are read together with the spec (`data`), so that what was hashed is what gets mounted;
they never show in a repr, a dump or a rendered config.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field, SecretBytes

from specs.extension import OnChange
from specs.types import EMPTY, Boolean, FileMode, Labels, Model


class FileObject(Model):
    """A config or secret. Exactly one of file, environment and content is given, or it is external."""

    name: str = ""
    file: str | None = None
    environment: str | None = None
    content: str | None = None
    external: Boolean = False
    labels: Labels = EMPTY
    data: SecretBytes | None = Field(default=None, exclude=True, repr=False)
    """What the file holds."""


def _owner(value: object) -> object:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


Owner = Annotated[str, BeforeValidator(_owner), Field(pattern=r"^\d{1,10}$")]


class FileExtension(Model):
    """`x-trueup` on one mounted config or secret."""

    on_change: OnChange | None = None


class FileReference(Model):
    """A config or secret mounted into a service; `target` is absolute once loaded."""

    source: str
    target: str = ""
    uid: Owner | None = None
    gid: Owner | None = None
    mode: FileMode | None = None
    extension: FileExtension = Field(default=FileExtension(), alias="x-trueup")
