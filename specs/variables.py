"""What a service takes from files and from the environment: variables, labels, seccomp profiles.

`env_file` and `label_file` are used up here, and what they say is put beside what the service says
itself, which wins.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from specs.document import DocumentError, Node
from specs.dotenv import read_env, read_raw_env
from specs.files import FileError, Files, Kind, decode
from specs.problem import Problems
from specs.shorthand import Base
from specs.types import parse_boolean


class Variables:
    """Fills services in from one environment; one instance per load."""

    def __init__(self, base: Base, environment: Mapping[str, str], files: Files, problems: Problems) -> None:
        self.base = base
        self.environment = environment
        self.files = files
        self.problems = problems

    def service(self, node: Node) -> Node:
        """The service with everything it names by file or by bare key."""
        node = self._labels(self._environment(node))
        return self._seccomp(self._hooks(self._build(node)))

    def _environment(self, node: Node) -> Node:
        """Files first, then the service's own; a bare key takes its value from the environment."""
        files, own = node.get("env_file"), node.get("environment")
        if own is not None and not isinstance(own.value, dict | None):
            return node.without("env_file")  # the models complain about it
        said = own.map if own is not None else {}
        known = {key: child.text for key, child in said.items() if isinstance(child.value, str)}
        values: dict[str, Node] = {}
        for item in files.items if files is not None else ():
            values.update(self._env_file(item, {**known, **self.environment}))
        if own is None and not values:
            return node.without("env_file")
        place = own if own is not None else Node({}, node.at)
        return node.without("env_file").with_items({"environment": self._given(place, {**values, **said})})

    def _given(self, place: Node, values: Mapping[str, Node]) -> Node:
        """The variables that have a value, here or in the environment."""
        found: dict[str, Node] = {}
        for key, child in values.items():
            if child.value is not None:
                found[key] = child
            elif key in self.environment:
                found[key] = child.replaced(self.environment[key])
        return Node(found, place.at, {key: place.keys.get(key, child.at) for key, child in found.items()})

    def _hooks(self, node: Node) -> Node:
        for key in ("post_start", "pre_stop"):
            hooks = node.get(key)
            if hooks is not None and any(hook.get("environment") for hook in hooks.items):
                node = node.with_items({key: hooks.replaced([self._hook(hook) for hook in hooks.items])})
        return node

    def _hook(self, hook: Node) -> Node:
        own = hook.get("environment")
        if own is None or not isinstance(own.value, dict):
            return hook
        return hook.with_items({"environment": self._given(own, own.value)})

    def _env_file(self, item: Node, known: Mapping[str, str]) -> dict[str, Node]:
        path = item.get("path")
        if path is None or not path.text:
            self.problems.add(item.at, "cannot use this env_file: write a path, or {path: …, required: false}")
            return {}
        for key in item.map:
            if key not in ("path", "required", "format"):
                self.problems.add(item.key_at(key), f'cannot use "{key}" in env_file', "known: path, required, format")
        required, form = item.get("required"), item.get("format")
        if required is not None:
            try:
                needed = parse_boolean(required.value)
            except ValueError as error:
                self.problems.add(required.at, f"cannot use {required.value!r} as required: {error}")
                return {}
            if not needed and not self.files.exists(path.text, "env"):
                return {}
        text = self._text(path, "env")
        if form is not None and form.value != "raw":
            self.problems.add(form.at, f"cannot use {form.value!r} as format of an env_file", 'known is "raw"')
        if form is not None:
            values = read_raw_env(text, self.environment.get)
        else:
            values = read_env(text, path.text, known.get, self.problems)
        return {key: Node(value, path.at) for key, value in values.items()}

    def _text(self, path: Node, kind: Kind) -> str:
        try:
            return decode(self.files.read(path.text, kind), path.text)
        except FileError as error:
            hint = "`required: false` makes it optional" if kind == "env" else ""
            self.problems.add(path.at, f"cannot read {path.text}: {error}", hint)
        except DocumentError as error:
            self.problems.add(error.at, error.message, error.hint)
        return ""

    def _labels(self, node: Node) -> Node:
        """Labels of `label_file`s, under the service's own."""
        files = node.get("label_file")
        if files is None:
            return node
        found: dict[str, Node] = {}
        for path in files.items:
            values = read_env(self._text(path, "label"), path.text, self.environment.get, self.problems)
            found.update({key: Node(value or "", path.at) for key, value in values.items()})
        own = node.get("labels") or Node({}, files.at)
        node = node.without("label_file")
        return node.with_items({"labels": own.replaced({**found, **own.map})})

    def _build(self, node: Node) -> Node:
        """Build arguments without a value take it from the environment, too."""
        build, args = node.get("build"), node.get("build", "args")
        if build is None or args is None or not isinstance(args.value, dict):
            return node
        return node.with_items({"build": build.with_items({"args": self._given(args, args.value)})})

    def _seccomp(self, node: Node) -> Node:
        """Seccomp profiles named by a path become their text, as Docker's client sends them."""
        options = node.get("security_opt")
        if options is None or not any(item.text.startswith("seccomp") for item in options.items):
            return node
        return node.with_items({"security_opt": options.replaced([self._profile(item) for item in options.items])})

    def _profile(self, option: Node) -> Node:
        name, _, value = option.text.replace("=", ":", 1).partition(":")
        if name != "seccomp" or value in ("", "unconfined") or value.startswith("{"):
            return option
        path = Node(self.base.path(value), option.at)
        text = self._text(path, "config")
        try:
            return option.replaced("seccomp=" + json.dumps(json.loads(text), separators=(",", ":")))
        except (ValueError, RecursionError):
            self.problems.add(option.at, f"cannot use seccomp profile {path.text}: it is not JSON")
            return option
