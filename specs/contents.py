"""The bytes of configs and secrets: from files, variables, the spec itself, or the host's own stores.

What is `external` belongs to the host, not to a project: it is a file named after it in a directory that only
the host's owner fills. Where no such directory is known (a spec checked on another machine) its content stays
unknown, and nothing is wrong with that.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from specs.document import Node
from specs.files import FileError, Files
from specs.problem import Problems

_NAME = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,199}")


@dataclass(frozen=True, slots=True)
class Stores:
    """Directories that hold external configs and secrets, one file each."""

    configs: str
    secrets: str


class Contents:
    """Reads what configs and secrets hold; one instance per load."""

    def __init__(self, files: Files, environment: Mapping[str, str], problems: Problems, stores: Stores | None) -> None:
        self.files, self.environment, self.problems, self.stores = files, environment, problems, stores

    def read(self, tree: Node) -> dict[str, dict[str, bytes]]:
        """By section and key, of a completed tree; what cannot be read is noted and left out."""
        found: dict[str, dict[str, bytes]] = {"configs": {}, "secrets": {}}
        for section, values in found.items():
            node = tree.get(section)
            for key, child in (node.map if node is not None else {}).items():
                data = self._content(child, "config" if section == "configs" else "secret")
                if data is not None:
                    values[key] = data
        return found

    def _content(self, node: Node, kind: Literal["config", "secret"]) -> bytes | None:
        file, variable, content = node.get("file"), node.get("environment"), node.get("content")
        external = node.get("external")
        if external is not None and external.value in (True, "true"):
            return self._external(node, external, kind)
        if file is not None and file.text:
            try:
                return self.files.read(file.text, kind)
            except FileError as error:
                self.problems.add(file.at, f"cannot read the {kind} {file.text}: {error}")
        elif variable is not None and variable.text:
            value = self.environment.get(variable.text)
            if value is not None:
                return value.encode()
            self.problems.add(variable.at, f"cannot take the {kind} from variable {variable.text}: it is not set")
        elif content is not None and kind == "config":
            return content.text.encode()
        return None

    def _external(self, node: Node, external: Node, kind: Literal["config", "secret"]) -> bytes | None:
        given = node.get("name")
        name = given.text if given is not None else ""
        if _NAME.fullmatch(name) is None:
            at = given.at if given is not None else external.at
            self.problems.add(
                at, f"cannot use {name[:60]!r} as the name of an external {kind}", "letters, digits, . _ -"
            )
            return None
        if self.stores is None:
            return None
        path = os.path.join(self.stores.secrets if kind == "secret" else self.stores.configs, name)
        try:
            return self.files.read(path, kind)
        except FileError as error:
            hint = f"external ones are files the host's owner puts into {os.path.dirname(path)}"
            self.problems.add(external.at, f'cannot find the external {kind} "{name}": {path}: {error}', hint)
        return None
