"""Many files into one tree: variables filled in, long forms, `extends`, `include`, overrides.

Follows Compose's order: each document is made canonical with the paths of its own directory, takes
what it extends and includes, and is then laid over the ones before it. Faults are noted and the rest
goes on, so that one load shows them all; `broken` says that a document is missing from the result.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace

from specs import first_form
from specs.canonical import canonical, listed
from specs.document import MAX_NODES, DocumentError, Node, plain, weigh
from specs.dotenv import read_env
from specs.files import FileError, Files, decode
from specs.interpolate import Interpolator, interpolate
from specs.merge import merge, settle
from specs.problem import Position, Problem, Problems
from specs.shorthand import Base
from specs.toml_document import read_toml
from specs.yaml_document import read_yaml

MAX_FILES = 200
MAX_CHAIN = 32
_SECTIONS = ("services", "networks", "volumes", "configs", "secrets")


@dataclass(frozen=True, slots=True)
class Scope:
    """Where documents are read: base of relative paths, variables, and the includes that led here."""

    directory: str
    environment: Mapping[str, str]
    chain: tuple[str, ...] = ()


class Assembler:
    """Reads and joins documents; one instance per load."""

    def __init__(self, files: Files, problems: Problems) -> None:
        self.files = files
        self.problems = problems
        self.notices: dict[str, Problem] = {}
        self.broken = False
        self.grown = False  # documents were joined, so the whole may be larger than each
        self.tagged = False
        self.templates = False
        self._documents: dict[str, list[Node]] = {}
        self._canonical: dict[tuple[str, int], Node] = {}
        self._services: dict[tuple[int, str], tuple[Node, Node | None]] = {}  # the tree is held, so ids stay unique
        self._count = 0

    def notice(self, at: Position, message: str, hint: str = "") -> None:
        """Note something a person should know that is no fault; once per message."""
        self.notices.setdefault(message, Problem(at.file, at.line, at.column, message, hint))

    def documents(self, path: str, blame: Position | None = None) -> list[Node]:
        """The raw documents of a file; a fault is noted at `blame` or in the file, and gives none."""
        if path not in self._documents:
            self._documents[path] = self._parsed(path, blame or Position(path))
        return self._documents[path]

    def _parsed(self, path: str, blame: Position) -> list[Node]:
        self._count += 1
        try:
            if self._count > MAX_FILES:
                raise FileError(f"the project already has {MAX_FILES} files")
            text = decode(self.files.read(path, "spec"), path)
            self.templates = self.templates or "$" in text
            self.tagged = self.tagged or "!reset" in text or "!override" in text
            documents = read_toml(text, path) if path.endswith(".toml") else read_yaml(text, path)
            for document in documents:
                if not isinstance(document.value, dict):
                    raise DocumentError(document.at, "cannot read the document: it is not a mapping")
            return documents
        except FileError as error:
            self.problems.add(blame, f"cannot read {path}: {error}")
        except DocumentError as error:
            self.problems.add(error.at, error.message, error.hint)
        self.broken = True
        return []

    def merged(self, paths: tuple[str, ...], scope: Scope, blame: Position | None = None) -> Node | None:
        """All documents of all files, later over earlier; None when there is nothing."""
        result: Node | None = None
        for path in paths:
            for document in self.documents(path, blame):
                layer = self._complete(document, scope)
                self.grown = self.grown or result is not None
                result = layer if result is None else merge(result, layer)
        return result

    def settled(self, tree: Node) -> Node:
        """The tree as it will be used; a tree that extends and includes blew up is dropped."""
        if self.grown and weigh(tree, 2 * MAX_NODES) > 2 * MAX_NODES:
            self.problems.add(tree.at, f"cannot read the project: it has more than {2 * MAX_NODES} values")
            self.broken = True
            return Node({}, tree.at)
        return settle(tree) if self.tagged else tree

    def _complete(self, document: Node, scope: Scope) -> Node:
        tree = self._filled(document, scope)
        services = tree.get("services")
        if services is not None and any("extends" in service.map for service in services.map.values()):
            extended = {name: self._extended(name, tree, scope, ()) for name in services.map}
            tree = tree.with_items({"services": services.replaced({k: v for k, v in extended.items() if v})})
        return self._included(tree, scope)

    def _filled(self, document: Node, scope: Scope) -> Node:
        """Variables, today's form, long forms."""
        interpolator = Interpolator(scope.environment.get)
        unset: dict[str, Position] = {}
        tree = interpolate(document, interpolator, self.problems, unset) if self.templates else document
        for name, at in unset.items():
            message = f"variable {name} is not set, and is taken as empty"
            self.notice(at, message, f"write ${{{name}:-default}} or set it in .env")
        if first_form.is_first_form(tree):
            self.notice(tree.at, first_form.NOTICE, first_form.HINT)
            tree = first_form.to_current(tree)
        base = Base(scope.directory, scope.environment.get("HOME", "/root"))
        return canonical(tree, base, self.problems)

    # ------------------------------------------------------------ extends

    def _extended(self, name: str, tree: Node, scope: Scope, chain: tuple[str, ...]) -> Node | None:
        """A service laid over the one it extends; None when that cannot be found."""
        key = (id(tree), name)
        if key not in self._services:
            found = self._extend(name, tree, scope, chain)
            self.broken = self.broken or found is None
            self._services[key] = (tree, found)
        return self._services[key][1]

    def _extend(self, name: str, tree: Node, scope: Scope, chain: tuple[str, ...]) -> Node | None:
        service = tree.get("services", name)
        extends = service.get("extends") if service is not None else None
        if service is None or extends is None:
            return service
        target, file = extends.get("service"), extends.get("file")
        if target is None or not target.text:
            self.problems.add(extends.at, "cannot extend: name the service, as in `extends: {service: NAME}`")
            return None
        where = f"{file.text}:{target.text}" if file is not None else f"{tree.at.file}:{target.text}"
        if where in chain or (file is None and target.text == name):
            loop = " → ".join((*chain, where))
            self.problems.add(extends.at, f"cannot extend {target.text}: it extends itself ({loop})")
            return None
        if len(chain) >= MAX_CHAIN:
            self.problems.add(extends.at, f"cannot extend {target.text}: more than {MAX_CHAIN} services in a chain")
            return None
        self.grown = True
        base = self._base(target, file, tree, scope, (*chain, where))
        return merge(base, service.without("extends"), ("services", "*")) if base is not None else None

    def _base(self, target: Node, file: Node | None, tree: Node, scope: Scope, chain: tuple[str, ...]) -> Node | None:
        if file is not None:
            scope = replace(scope, directory=os.path.dirname(file.text))
            documents = self.documents(file.text, file.at)
            found = [self._filled_once(document, scope) for document in documents]
            tree = found[0] if found else Node({}, file.at)
            for layer in found[1:]:
                tree = merge(tree, layer)
            if not found:
                return None
        if tree.get("services", target.text) is None:
            place = f" in {file.text}" if file is not None else ""
            self.problems.add(target.at, f"cannot extend {target.text}: there is no such service{place}")
            return None
        return self._extended(target.text, tree, scope, chain)

    def _filled_once(self, document: Node, scope: Scope) -> Node:
        key = (scope.directory, id(document))
        if key not in self._canonical:
            self._canonical[key] = self._filled(document, scope)
        return self._canonical[key]

    # ------------------------------------------------------------ include

    def _included(self, tree: Node, scope: Scope) -> Node:
        include = tree.get("include")
        if include is None:
            return tree
        self.grown = True
        tree = tree.without("include")
        if not isinstance(include.value, list):
            self.problems.add(include.at, "cannot include: expected a list of paths")
            return tree
        for entry in include.value:
            part = self._include(entry, scope)
            if part is not None:
                tree = self._import(tree, part, entry.at)
        return tree

    def _include(self, entry: Node, scope: Scope) -> Node | None:
        path = entry if isinstance(entry.value, str) else entry.get("path")
        if path is None or not (path.text or path.items):
            self.problems.add(entry.at, "cannot include: write a path, or {path: …, project_directory: …}")
            return None
        known = ("path", "env_file", "project_directory")
        for key in entry.map:
            if key not in known and not key.startswith("x-"):
                self.problems.add(entry.key_at(key), f'cannot use "{key}" in include: known are {", ".join(known)}')
        base = Base(scope.directory, scope.environment.get("HOME", "/root"))
        texts = [item.text for item in listed(path).items]
        if any(not text or "://" in text or text.startswith(("oci:", "git@")) for text in texts):
            self.problems.add(path.at, "cannot include what is not a local file", "fetch it first")
            return None
        paths = tuple(base.path(text) for text in texts)
        if loop := [one for one in paths if one in scope.chain]:
            self.problems.add(path.at, f"cannot include {loop[0]}: it includes itself", " → ".join(scope.chain))
            return None
        inner = self._inner_scope(entry, paths, base, scope)
        merged = self.merged(paths, inner, path.at)
        return self.settled(merged) if merged is not None else None

    def _inner_scope(self, entry: Node, paths: tuple[str, ...], base: Base, scope: Scope) -> Scope:
        given = entry.get("project_directory")
        directory = base.path(given.text) if given is not None and given.text else os.path.dirname(paths[0])
        env_file = entry.get("env_file")
        environment = dict(scope.environment)
        if env_file is None:
            default = os.path.join(directory, ".env")
            env_paths = [(default, entry.at)] if self.files.exists(default, "env") else []
        else:
            found = listed(env_file).items
            env_paths = [(base.path(item.text), item.at) for item in found]
        for env_path, at in env_paths:
            for key, value in self.env(env_path, environment, at).items():
                environment.setdefault(key, value)
        return Scope(directory, environment, (*scope.chain, *paths))

    def _import(self, tree: Node, part: Node, at: Position) -> Node:
        """What an included file defines, put beside ours; the same name must mean the same."""
        for section in _SECTIONS:
            theirs = part.get(section)
            if theirs is None or not isinstance(theirs.value, dict):
                continue
            ours = tree.get(section) or Node({}, theirs.at)
            for name, node in theirs.value.items():
                mine = ours.map.get(name)
                if mine is not None and plain(mine) != plain(node):
                    place = f"{node.at.file}:{node.at.line}"
                    hint = "rename one, or lay an override file over the project"
                    self.problems.add(at, f'cannot include {section} "{name}" of {place}: it is defined here too', hint)
            merged = Node({**theirs.value, **ours.map}, ours.at, {**theirs.keys, **ours.keys})
            tree = tree.with_items({section: merged})
        return tree

    # ------------------------------------------------------------ env files

    def env(self, path: str, environment: Mapping[str, str], blame: Position) -> dict[str, str]:
        """Variables of an env file, those that have a value."""
        try:
            text = decode(self.files.read(path, "env"), path)
        except FileError as error:
            self.problems.add(blame, f"cannot read {path}: {error}")
            return {}
        except DocumentError as error:
            self.problems.add(error.at, error.message, error.hint)
            return {}
        values = read_env(text, path, environment.get, self.problems)
        return {key: value for key, value in values.items() if value is not None}
