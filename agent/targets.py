"""What a person means by a name: a service by its own or with its project, a project by name or path. Pure."""

from __future__ import annotations

import difflib
import os
from collections.abc import Collection, Iterable

from agent.control import ServiceStatus
from agent.desired import DesiredProject
from agent.views import SpecFile
from runtime.errors import NotFound


def service_named(name: str, services: Collection[ServiceStatus]) -> ServiceStatus:
    """The service `name` or `project/name`. Raises NotFound, with what comes near."""
    found = [s for s in services if name in (s.name, f"{s.project}/{s.name}")]
    if len(found) == 1:
        return found[0]
    if found:
        several = " or ".join(f"{s.project}/{s.name}" for s in found)
        raise NotFound(f"cannot tell which service {name!r} is", hint=f"{several}?")
    known = [*(s.name for s in services), *(f"{s.project}/{s.name}" for s in services)]
    raise NotFound(f"cannot find service {name!r}", hint=_near(name, known))


def project_named(
    target: str, projects: Iterable[DesiredProject], files: Iterable[SpecFile], others: Collection[str]
) -> str:
    """The name of a project given by name, by spec path or by directory; `others` are further names there are.

    Raises NotFound, with what comes near.
    """
    projects = list(projects)
    names = {*others, *(p.name for p in projects)}
    if target in names:
        return target
    path = os.path.abspath(target)
    for file in files:
        if file.project and path in (file.path, os.path.dirname(file.path)):
            return file.project
    for project in projects:
        if path == project.directory or path in project.files:
            return project.name
    raise NotFound(f"cannot find project {target!r}", hint=_near(target, names))


def _near(word: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, list(known), n=1)
    return f"did you mean {near[0]}?" if near else "`trueup status` lists what there is"
