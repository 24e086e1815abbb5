"""From a path to a project, or to everything that is wrong with it.

Pure but for reading: nothing is written, nothing fetched. The same files and environment always give
the same project. Every file that was read, or looked for, is listed, so that a caller can watch them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from specs.assemble import Assembler, Scope
from specs.check import check
from specs.complete import Completer
from specs.contents import Contents, Stores
from specs.document import Node
from specs.files import Files
from specs.interpolate import InterpolationError, Interpolator
from specs.problem import Position, Problem, Problems
from specs.project import Project, SourceFile
from specs.shorthand import Base
from specs.source import Source, find, is_project_name, join, normalise
from specs.validate import to_project
from specs.variables import Variables


@dataclass(frozen=True, slots=True)
class Loaded:
    """A project, or the problems that keep it from being one; `files` is complete either way."""

    project: Project | None
    problems: tuple[Problem, ...] = ()
    notices: tuple[Problem, ...] = ()
    files: tuple[SourceFile, ...] = field(default=(), repr=False)


PathLike = str | os.PathLike[str]


def load(
    path: PathLike | Sequence[PathLike],
    environment: Mapping[str, str],
    *,
    profiles: Sequence[str] = (),
    name: str = "",
    stores: Stores | None = None,
) -> Loaded:
    """Read the project at `path` (a file, a directory, or files laid over each other).

    `environment` fills in variables, over the `.env` beside the file. `profiles` are active besides
    those of COMPOSE_PROFILES. `name` overrules the project's name. `stores` hold what is
    external; without them its content is not asked for. Never raises for what files say.
    """
    problems = Problems()
    try:
        given = [os.fspath(one) for one in path] if not isinstance(path, str | os.PathLike) else [os.fspath(path)]
        source = find(given[0]) if len(given) == 1 else join(given)
    except ValueError as error:
        problems.add(Position(os.path.abspath(given[0])), str(error))
        return Loaded(None, tuple(problems))
    return _Load(source, environment, tuple(profiles), name, problems, stores).run()


class _Load:
    """One load in progress."""

    def __init__(
        self,
        source: Source,
        environment: Mapping[str, str],
        profiles: tuple[str, ...],
        name: str,
        problems: Problems,
        stores: Stores | None,
    ) -> None:
        self.source = source
        self.stores = stores
        self.profiles = profiles
        self.given_name = name
        self.problems = problems
        self.files = Files()
        self.assembler = Assembler(self.files, problems)
        self.environment = dict(environment)
        self.dot_env: dict[str, str] = {}

    def run(self) -> Loaded:
        self._dot_env()
        name = self._name()
        self.environment["COMPOSE_PROJECT_NAME"] = name
        scope = Scope(self.source.directory, self.environment, self.source.files)
        merged = self.assembler.merged(self.source.files, scope)
        if merged is None and not self.problems:
            self.problems.add(Position(self.source.files[0]), "cannot use the file: it is empty")
        if merged is None:
            return self._loaded(None)
        project = self._project(self.assembler.settled(merged), name)
        return self._loaded(project)

    def _loaded(self, project: Project | None) -> Loaded:
        notices = tuple(self.assembler.notices.values())
        files = tuple(self.files.seen.values())
        return Loaded(None if self.problems else project, tuple(self.problems), notices, files)

    def _dot_env(self) -> None:
        path = os.path.join(self.source.directory, ".env")
        if self.files.exists(path, "env"):
            self.dot_env = self.assembler.env(path, self.environment, Position(path))
            for key, value in self.dot_env.items():
                self.environment.setdefault(key, value)
        if self.source.is_directory and self.dot_env.get("COMPOSE_FILE"):
            separator = self.dot_env.get("COMPOSE_PATH_SEPARATOR") or ":"
            named = self.dot_env["COMPOSE_FILE"].split(separator)
            files = tuple(os.path.normpath(os.path.join(self.source.directory, name)) for name in named)
            self.source = replace(self.source, files=files)

    def _name(self) -> str:
        """The project's name: as told (by `.env` for a directory), else `name:`, else the file's or directory's."""
        told = self.given_name or (self.dot_env.get("COMPOSE_PROJECT_NAME", "") if self.source.is_directory else "")
        if told:
            return normalise(told)
        written: Node | None = None
        for path in self.source.files:
            for document in self.assembler.documents(path):
                written = document.get("name") or written
        if written is not None and not (isinstance(written.value, dict) or written.value is None):
            return self._written_name(written)
        if not is_project_name(self.source.default_name) and not self.problems:
            first = Position(self.source.files[0])
            told = os.path.basename(self.source.directory if self.source.is_directory else self.source.files[0])
            hint = "add `name:` at the top: lower-case letters, digits, - and _"
            self.problems.add(first, f'cannot make a project name out of "{told}"', hint)
        return self.source.default_name

    def _written_name(self, node: Node) -> str:
        try:
            text = Interpolator(self.environment.get).text(node.text)
        except InterpolationError:
            return self.source.default_name  # reported with all other variables
        if not is_project_name(text):
            message = f"cannot use {node.value!r} as a project's name"
            self.problems.add(node.at, message, "lower-case letters, digits, - and _, beginning with a letter or digit")
        return text

    def _project(self, tree: Node, name: str) -> Project | None:
        base = Base(self.source.directory, self.environment.get("HOME", "/root"))
        variables = Variables(base, self.environment, self.files, self.problems)
        tree = Completer(name, variables, self.problems, self.assembler.notice).project(tree)
        disabled = self._disabled(tree)
        contents = Contents(self.files, self.environment, self.problems, self.stores).read(tree)
        if not self.assembler.broken:
            check(tree, self.problems, disabled)
        project = to_project(tree, contents, self.problems)
        if project is None or self.problems:
            return None
        services = {key: service for key, service in project.services.items() if key not in disabled}
        files = tuple(self.files.seen.values())
        update = {"services": services, "directory": self.source.directory, "files": files}
        return project.model_copy(update=update)

    def _disabled(self, tree: Node) -> frozenset[str]:
        """Services that have profiles, none of them active."""
        listed = self.environment.get("COMPOSE_PROFILES", "").split(",")
        active = {*self.profiles, *(one.strip() for one in listed)}
        services = tree.get("services")
        found = set()
        for key, node in (services.map if services is not None else {}).items():
            profiles = node.get("profiles")
            names = {item.text for item in profiles.items} if profiles is not None else set()
            if names and "*" not in active and not names & active:
                found.add(key)
        return frozenset(found)
