"""A project: all that one file, or one directory, says, resolved and checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from specs.extension import ProjectExtension
from specs.file_object import FileObject
from specs.network import Network
from specs.service import Service
from specs.types import EMPTY, Model
from specs.volume import Volume


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file that was read for the project; a change of it may change the project.

    `digest` is "sha256:HEX" of the content, "" when the file was looked for and is not there.
    """

    path: str
    kind: Literal["spec", "env", "config", "secret", "label"]
    size: int = 0
    digest: str = ""


class Project(Model):
    """A project. Keys of the mappings are the names used inside the files."""

    name: str
    services: Mapping[str, Service] = EMPTY
    networks: Mapping[str, Network] = EMPTY
    volumes: Mapping[str, Volume] = EMPTY
    configs: Mapping[str, FileObject] = EMPTY
    secrets: Mapping[str, FileObject] = EMPTY
    extension: ProjectExtension = Field(default=ProjectExtension(), alias="x-trueup")
    directory: str = Field(default="", exclude=True)
    """The directory relative paths are resolved against; absolute."""
    files: tuple[SourceFile, ...] = Field(default=(), exclude=True)
