"""Names of images as Docker normalises them: `alpine` is `docker.io/library/alpine:latest`.

The grammar is that of github.com/distribution/reference. Pure; knows nothing of stores or registries.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from runtime.errors import InvalidInput

DEFAULT_REGISTRY = "docker.io"
_OFFICIAL = "library/"
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_REGISTRY = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-fA-F:]+\])(?::[0-9]{{1,5}})?")
_TAG = re.compile(r"\w[\w.-]{0,127}", re.ASCII)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_ID = re.compile(r"(?:sha256:)?([0-9a-f]{4,64})")
_MAX_NAME = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A full name: `registry/repository[:tag][@digest]`; at least one of tag and digest is set."""

    registry: str
    repository: str
    tag: str = ""
    digest: str = ""

    def __str__(self) -> str:
        return self.name + (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")

    @property
    def name(self) -> str:
        """Registry and repository, "docker.io/library/alpine"."""
        return f"{self.registry}/{self.repository}"

    @property
    def familiar(self) -> str:
        """As people write it: without docker.io and library."""
        text = str(self)
        if self.registry == DEFAULT_REGISTRY:
            text = text.removeprefix(DEFAULT_REGISTRY + "/")
            if self.repository.count("/") == 1:
                text = text.removeprefix(_OFFICIAL)
        return text

    @property
    def selector(self) -> str:
        """What a registry is asked for: the digest where there is one, else the tag."""
        return self.digest or self.tag

    def tagged(self) -> str:
        """The name with its tag alone, "" when it has none."""
        return str(replace(self, digest="")) if self.tag else ""

    def with_digest(self, digest: str) -> str:
        """`registry/repository@digest`."""
        return f"{self.name}@{digest}"


def parse(text: str) -> Reference:
    """Normalise what a person wrote. Raises InvalidInput that names the part which is wrong."""
    if re.fullmatch(r"[0-9a-f]{64}", text):
        raise InvalidInput(f"cannot use {text!r} as an image name: it is an image id")
    rest, at, digest = text.partition("@")
    if at and not is_digest(digest):
        raise InvalidInput(f"cannot use image {text!r}: {digest!r} is no sha256 digest")
    registry, repository, tag = _split(rest)
    if registry in ("index.docker.io", "registry-1.docker.io"):
        registry = DEFAULT_REGISTRY
    if registry == DEFAULT_REGISTRY and "/" not in repository:
        repository = _OFFICIAL + repository
    _check(text, registry, repository, tag)
    if not tag and not digest:
        tag = "latest"
    return Reference(registry=registry, repository=repository, tag=tag or "", digest=digest)


def is_digest(text: str) -> bool:
    """Whether `text` is "sha256:" and 64 lower-case hex digits."""
    return _DIGEST.fullmatch(text) is not None


def id_prefix(text: str) -> str:
    """The hex digits of `text` when it can be an image id or the beginning of one, else ""."""
    found = _ID.fullmatch(text)
    return found[1] if found else ""


def _split(rest: str) -> tuple[str, str, str | None]:
    head, slash, tail = rest.partition("/")
    if slash and (any(c in head for c in ".:[") or head == "localhost" or head != head.lower()):
        registry, path = head, tail
    else:
        registry, path = DEFAULT_REGISTRY, rest
    repository, colon, tag = path.partition(":")
    return registry, repository, tag if colon else None


def _check(text: str, registry: str, repository: str, tag: str | None) -> None:
    problem = ""
    if not _REGISTRY.fullmatch(registry):
        problem = f"{registry!r} is no registry host"
    elif repository != repository.lower():
        problem = "the repository must be lower case"
    elif not _REPOSITORY.fullmatch(repository):
        problem = f"{repository!r} is no repository name"
    elif len(repository) > _MAX_NAME:
        problem = f"the repository is longer than {_MAX_NAME} characters"
    elif tag is not None and not _TAG.fullmatch(tag):
        problem = f"{tag!r} is no tag"
    if problem:
        raise InvalidInput(f"cannot use image {text!r}: {problem}")
