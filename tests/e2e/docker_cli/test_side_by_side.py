"""One session of `docker`, typed at our agent and at dockerd: what is printed is the same, but for a list.

`session.txt` is the session, one line of shell a step; `differences.txt` says for each step that differs why, and
how. With `TU_GOLDEN=write` the differences seen are written there (a new one with an empty reason, which fails).
"""

from __future__ import annotations

import difflib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests import golden_text
from tests.e2e.docker_cli.engines import DOCKER, Typist, free_ports, ours, theirs
from tests.e2e.docker_cli.normal import normal

HERE = Path(__file__).parent
LISTED = HERE / "differences.txt"
COUNTERPART = "20.10"  # what Debian 12 ships and the list was written beside


def steps() -> list[str]:
    """The lines of the session without comments."""
    lines = (HERE / "session.txt").read_text().splitlines()
    return [line for line in lines if line.strip() and not line.startswith("#")]


def play(typist: Typist) -> list[str]:
    """What each step printed, made comparable."""
    ports = typist.ports
    places: dict[str, str] = {
        str(typist.home / "typed"): "HERE",
        str(typist.home): "HOME",
        **{str(getattr(ports, name)): name.upper() for name in ("registry", "tls", "web")},
    }
    typist.sit_down()
    shown = []
    for line in steps():
        output, code = typist.type(line)
        shown.append(normal(output, places) + (f"exit code {code}\n" if code else ""))
    return shown


def difference(theirs: str, ours: str) -> str:
    """Lines only dockerd prints with "-", only ours with "+"."""
    compared = difflib.ndiff(theirs.splitlines(), ours.splitlines())
    return "".join(f"{line.rstrip()}\n" for line in compared if line[0] in "+-")


def listed() -> dict[str, tuple[str, str]]:
    """By step: the reason, and the difference."""
    found: dict[str, tuple[str, str]] = {}
    for block in LISTED.read_text().split("\n$ ")[1:]:
        step, reason, *lines = block.splitlines()
        found[step] = (reason.removeprefix("# ").strip("#"), "".join(f"{line}\n" for line in lines if line))
    return found


def write(seen: dict[str, str]) -> None:
    """Put what was seen on the list, with the reasons already known."""
    known = listed()
    head = LISTED.read_text().split("\n$ ")[0].rstrip("\n")
    blocks = [f"\n$ {step}\n# {known.get(step, ('', ''))[0]}\n{lines}" for step, lines in seen.items()]
    LISTED.write_text(head + "\n" + "".join(blocks))


@pytest.fixture
def homes() -> Iterator[tuple[Path, Path]]:
    """Two directories with names of the same length, so that columns agree."""
    made = [Path(tempfile.mkdtemp(prefix=f"tu-{who}-", dir="/var/tmp")) for who in ("ours", "them")]
    yield made[0], made[1]
    for home in made:
        shutil.rmtree(home, ignore_errors=True)


def _counterpart() -> str:
    found = shutil.which("dockerd")
    if not found or not shutil.which("docker-registry") or not os.path.exists(DOCKER):
        return ""
    return subprocess.run([found, "--version"], capture_output=True, text=True, check=False).stdout


@pytest.mark.privileged
@pytest.mark.peer
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(COUNTERPART not in _counterpart(), reason=f"peer: no dockerd {COUNTERPART} with docker-registry")
def test_a_session_of_docker_prints_what_it_prints_with_dockerd(homes: tuple[Path, Path]) -> None:
    ports = free_ports()
    with ours(homes[0], ports) as we, theirs(homes[1], ports) as they, ThreadPoolExecutor(2) as hands:
        printed, expected = hands.map(play, (we, they))
    compared = zip(steps(), expected, printed, strict=True)
    seen = {step: lines for step, dockerd, agent in compared if (lines := difference(dockerd, agent))}
    if golden_text.WRITE:
        write(seen)
    known = listed()
    assert [step for step in seen if not known.get(step, ("", ""))[0]] == [], "these differ without a reason"
    assert seen == {step: lines for step, (_, lines) in known.items()}
