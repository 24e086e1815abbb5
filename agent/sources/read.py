"""Reading one unit: specs to a desired project, every complaint as a problem with its place."""

from __future__ import annotations

import os
from collections.abc import Mapping

from agent import translate
from agent.desire import desire
from agent.desired import DesiredProject
from agent.settings import SpecsPolicy
from agent.sources.policy import below, forbidden, out_of_reach
from agent.sources.unit import Reading
from agent.views import Problem
from runtime.errors import TrueupError
from specs.contents import Stores
from specs.load import Loaded, load


def reader_for(
    options: translate.Options,
    environment: Mapping[str, str] | None = None,
    policies: Mapping[str, SpecsPolicy] | None = None,
    stores: Stores | None = None,
) -> ReaderOf:
    """A reader with the agent's options; `policies` say what specs below a directory may ask for."""
    return ReaderOf(options, dict(os.environ if environment is None else environment), dict(policies or {}), stores)


class ReaderOf:
    """Reads units; the same files give the same reading."""

    def __init__(
        self,
        options: translate.Options,
        environment: dict[str, str],
        policies: dict[str, SpecsPolicy],
        stores: Stores | None,
    ) -> None:
        self._options, self._environment, self._policies, self._stores = options, environment, policies, stores

    def __call__(self, path: str) -> Reading:
        """Read the unit at `path`. Never raises for what its files say."""
        loaded = load(path, self._environment, stores=self._stores)
        files = tuple(f.path for f in loaded.files)
        problems = tuple(_problem(p.file, p.line, p.column, p.message, p.hint) for p in loaded.problems)
        notices = tuple(str(n) for n in loaded.notices)
        if loaded.project is None:
            return Reading(project=None, problems=problems, notices=notices, files=files)
        try:
            project = desire(loaded.project, self._options)
        except TrueupError as e:
            return Reading(project=None, problems=(_problem(path, 1, 1, str(e), ""),), files=files)
        refused = tuple(_problem(path, 1, 1, t, "agent.toml: policies") for t in self._refused(path, loaded, project))
        return Reading(project=None if refused else project, problems=problems + refused, notices=notices, files=files)

    def _refused(self, path: str, loaded: Loaded, project: DesiredProject) -> tuple[str, ...]:
        root, policy = next(((d, p) for d, p in self._policies.items() if below(path, d)), ("", None))
        if policy is None:
            return ()
        read = [f.path for f in loaded.files if f.digest and f.path != path]
        return forbidden(project, policy) + tuple(out_of_reach(read, root, self._stores, policy))


def _problem(path: str, line: int, column: int, message: str, hint: str) -> Problem:
    return Problem(path=path, line=line, column=column, message=f"{message} ({hint})" if hint else message)
