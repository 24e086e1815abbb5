"""What counts as a spec, and what its project is called.

A file `*.yaml|*.yml|*.toml` is a project; a directory that holds a `compose.*` file is one, with its
override file and its `.env`. What editors leave behind never is.
"""

from __future__ import annotations

import os
import re
import unicodedata
from dataclasses import dataclass

SUFFIXES = (".yaml", ".yml", ".toml")
_MAIN = tuple(stem + suffix for stem in ("compose", "docker-compose") for suffix in SUFFIXES)
_OVERRIDES = tuple(f"{stem}.override{suffix}" for stem in ("compose", "docker-compose") for suffix in SUFFIXES)
_LEFTOVER = re.compile(r"^[.#]|~$|#$|\.(swp|swx|tmp|temp|bak|orig|rej|part|new)$", re.IGNORECASE)
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")


@dataclass(frozen=True, slots=True)
class Source:
    """The files of one project, lowest first, the directory paths are relative to, a default name."""

    files: tuple[str, ...]
    directory: str
    default_name: str
    is_directory: bool = False


def is_spec_name(name: str) -> bool:
    """Whether a file of this name is a spec: right suffix, and no editor's leftover."""
    return name.endswith(SUFFIXES) and _LEFTOVER.search(name) is None


def is_main_name(name: str) -> bool:
    """Whether a file of this name makes its directory a project."""
    return name in _MAIN


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What a directory holds: paths of its projects, sorted; its folders; its folders and symlinks, hidden ones too."""

    projects: list[str]
    folders: list[str]
    ways: frozenset[str]


def survey(directory: str | os.PathLike[str]) -> Survey:
    """Look at a directory once: a call per folder and symlink in it, none per file.

    A directory that is itself a project (it holds `compose.*`) is that one project. Raises OSError
    when the directory, or a part of it, cannot be read: half a listing is no listing.
    """
    root = os.path.abspath(directory)
    files: dict[str, str] = {}
    folders: dict[str, str] = {}
    ways: set[str] = set()
    with os.scandir(root) as entries:
        for entry in entries:
            folder = os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir()
            if folder or entry.is_symlink():
                ways.add(entry.path)
            if not entry.name.startswith("."):
                (folders if folder else files)[entry.name] = entry.path
    if any(name in files or name in folders for name in _MAIN):
        found = [root]
    else:
        found = [path for name, path in files.items() if is_spec_name(name)]
        found += [path for name, path in folders.items() if not _LEFTOVER.search(name) and _is_project(path)]
    return Survey(projects=sorted(found), folders=list(folders.values()), ways=frozenset(ways))


def _is_project(folder: str) -> bool:
    return any(name in _MAIN for name in os.listdir(folder))


def discover(directory: str | os.PathLike[str]) -> list[str]:
    """Paths of the projects in a directory, sorted: spec files, and sub-directories with a compose file.

    Raises what `survey` raises.
    """
    return survey(directory).projects


def find(path: str) -> Source:
    """The source at a path; ValueError says why there is none."""
    path = os.path.abspath(path)
    if not os.path.isdir(path):
        return Source((path,), os.path.dirname(path), normalise(_stem(path)))
    try:
        names = set(os.listdir(path))
    except OSError as error:
        raise ValueError(f"cannot read the directory: {error.strerror}") from None
    main = [name for name in _MAIN if name in names]
    if not main:
        raise ValueError("cannot find compose.yaml, compose.yml or compose.toml in the directory")
    if len(main) > 1:
        raise ValueError(f"cannot choose between {' and '.join(main)}: keep one")
    overrides = [name for name in _OVERRIDES if name in names]
    files = tuple(os.path.join(path, name) for name in (main[0], *overrides))
    return Source(files, path, normalise(os.path.basename(path)), is_directory=True)


def join(paths: list[str]) -> Source:
    """Several files as one project, later ones over earlier ones."""
    files = tuple(os.path.abspath(path) for path in paths)
    directory = os.path.dirname(files[0])
    stem = os.path.basename(directory) if os.path.basename(files[0]) in _MAIN else _stem(files[0])
    return Source(files, directory, normalise(stem))


def _stem(path: str) -> str:
    name = os.path.basename(path)
    return os.path.basename(os.path.dirname(path)) if name in _MAIN else os.path.splitext(name)[0]


def normalise(name: str) -> str:
    """A project name out of any text, as Compose makes it, letters without their accents; may be empty."""
    plain = unicodedata.normalize("NFKD", name)
    return re.sub(r"[^a-z0-9_-]", "", plain.lower()).lstrip("_-")


def is_project_name(name: str) -> bool:
    """Whether Compose accepts the name as it is."""
    return _NAME.fullmatch(name) is not None
