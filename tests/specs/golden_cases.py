"""Golden cases: one file holds the input files, what surrounds them, and what must come out.

    ==> compose.yaml          a file to write; the first one named is loaded (or the directory, see below)
    ==> load                  what to load, one path a line, instead of the first file; "." is the directory
    ==> environment           KEY=value lines
    ==> profiles              one a line
    ==> host/secrets/NAME     an external secret (or host/configs/NAME); without any, no store is known
    ==> expected              notes, problems, and the canonical project as YAML

`TU_GOLDEN=write pytest tests/specs` writes what came out into the cases; review it with git diff.
"""

from __future__ import annotations

import re
from pathlib import Path

import specs
from specs.contents import Stores
from specs.render import to_compose, to_yaml
from tests import golden_text

_MARK = re.compile(r"^==> (.+)\n", re.MULTILINE)
_ASIDE = frozenset({"load", "environment", "profiles", "expected"})


def parts(text: str) -> dict[str, str]:
    """Name → content of each part of a case; what stands before the first is "" (a comment)."""
    split = _MARK.split(text)
    return {"": split[0], **dict(zip(split[1::2], split[2::2], strict=True))}


def outcome(case: dict[str, str], directory: Path) -> str:
    """Write the case's files, load them, and print what came of it with the directory as /project."""
    files = [name for name in case if name and name not in _ASIDE]
    for name in files:
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(case[name])
    wanted = case.get("load", files[0]).splitlines()
    environment = dict(line.split("=", 1) for line in case.get("environment", "").splitlines() if line)
    paths = [str(directory / name) for name in wanted]
    profiles = case.get("profiles", "").split()
    stores = None
    if any(name.startswith("host/") for name in files):
        stores = Stores(configs=str(directory / "host/configs"), secrets=str(directory / "host/secrets"))
    loaded = specs.load(paths[0] if len(paths) == 1 else paths, environment, profiles=profiles, stores=stores)
    lines = [f"note: {notice}\n" for notice in loaded.notices]
    lines += [f"{problem}\n" for problem in loaded.problems]
    if loaded.project is not None:
        lines.append(to_yaml(to_compose(loaded.project)))
    return "".join(lines).replace(str(directory) + "/", "/project/").replace(str(directory), "/project")


def check(path: Path, directory: Path) -> None:
    """Compare, or overwrite when asked to."""
    text = path.read_text()
    case = parts(text)
    came = outcome(case, directory)
    if golden_text.WRITE:
        path.write_text(text.partition("==> expected\n")[0] + "==> expected\n" + came)
        return
    assert came == case["expected"]
