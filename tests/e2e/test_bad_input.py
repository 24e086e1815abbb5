"""Whatever a person gets wrong: a clear message where they look, the last good state kept, the others unharmed."""

from __future__ import annotations

import json
import runpy
import shutil
import socket
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.harness import IMAGE, REPOSITORY, AgentUnderTest

pytestmark = pytest.mark.privileged

GOOD = f"""\
services:
  steady: {{image: "{IMAGE}", init: true, command: ["sleep", "infinity"], network_mode: none}}
"""


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AgentUnderTest]:
    """One agent for all cases; its steady service must never notice any of them."""
    home = Path("/var/tmp") / f"tu-bad-{tmp_path_factory.mktemp('x').parent.name[-8:]}"
    home.mkdir()
    with AgentUnderTest(home) as running:
        (running.specs / "good.yaml").write_text(GOOD)
        running.running("steady")
        yield running
    shutil.rmtree(home)


@pytest.fixture(autouse=True)
def _unharmed(agent: AgentUnderTest) -> Iterator[None]:
    before = agent.pids()["steady"]
    yield
    for path in agent.specs.iterdir():
        if path.name != "good.yaml":
            path.unlink()
    assert agent.pids()["steady"] == before, "the steady service was touched"


def service(**fields: object) -> str:
    """A compose file of one service `x`."""
    tree = {"image": IMAGE, "command": ["sleep", "infinity"], "network_mode": "none", "init": True, **fields}
    return json.dumps({"services": {"x": {k: v for k, v in tree.items() if v is not None}}})


SPECS = {
    "yaml syntax": ("a.yaml", "services:\n  x: {image: y\n", "a.yaml:"),
    "toml syntax": ("a.toml", "[services.x]\nimage = \n", "a.toml:2:"),
    "unknown key": ("a.yaml", "services:\n  x:\n    imagee: y\n", "a.yaml:3:5: cannot use"),
    "wrong type": ("a.yaml", "services:\n  x:\n    image: y\n    ports: 80\n", "a.yaml:4:"),
    "undefined network": ("a.yaml", "services:\n  x:\n    image: y\n    networks: [nope]\n", "nope"),
    "undefined volume": ("a.yaml", 'services:\n  x:\n    image: y\n    volumes: ["nope:/d"]\n', "nope"),
    "cycle": (
        "a.yaml",
        "services:\n  x: {image: y, depends_on: [z]}\n  z: {image: y, depends_on: [x]}\n",
        "x",
    ),
}


@pytest.mark.parametrize("case", SPECS)
def test_a_bad_spec_is_named_by_validate_and_status(agent: AgentUnderTest, case: str) -> None:
    name, text, expected = SPECS[case]
    (agent.specs / name).write_text(text)
    said = agent.trueup("validate", str(agent.specs / name), ok=(1,))
    assert expected in said and "cannot" in said and "Traceback" not in said
    agent.until("status names it", lambda: name in agent.trueup("status"))


def test_two_files_that_claim_one_name(agent: AgentUnderTest) -> None:
    (agent.specs / "other.yaml").write_text("name: good\n" + GOOD)
    agent.until("status says duplicate", lambda: "duplicate" in agent.trueup("status").lower())


def test_a_port_already_taken_by_a_program(agent: AgentUnderTest) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        spec = service(network_mode=None, ports=[f"127.0.0.1:{port}:80"])
        (agent.specs / "a.yaml").write_text(spec)
        agent.until("status names the port", lambda: f"127.0.0.1:{port}" in agent.trueup("status"))
        assert "cannot" in agent.trueup("why", "x")
    agent.until("it heals once the port is free", lambda: "x" in agent.pids(), 40)


def test_an_image_that_does_not_exist(agent: AgentUnderTest) -> None:
    (agent.specs / "a.yaml").write_text(service(image="localhost:1/no/such:image"))
    agent.until("status names the image", lambda: "no/such" in agent.trueup("status"))
    assert "cannot" in agent.trueup("status")


def test_a_command_that_is_not_in_the_image(agent: AgentUnderTest) -> None:
    (agent.specs / "a.yaml").write_text(service(command=["/no/such/command"], init=None))
    agent.until("status names the command", lambda: "/no/such/command" in agent.trueup("status"))


def test_archives_that_are_cut_or_lie(agent: AgentUnderTest) -> None:
    good = (agent.home / "images/busybox.tar").read_bytes()
    (agent.home / "images/cut.tar").write_bytes(good[: len(good) // 2])
    agent.until("the log names the cut archive", lambda: "cut.tar" in agent.tail())
    lie = agent.home / "lie"
    other = runpy.run_path(str(REPOSITORY / "examples/make_image.py"))
    other["FILES"]["etc/other"] = "another image\n"
    (agent.home / "other.tar").write_bytes(other["archive"](other["find_busybox"]()))
    with tarfile.open(agent.home / "other.tar") as tar:
        tar.extractall(lie)
    blob = max((lie / "blobs/sha256").iterdir(), key=lambda p: p.stat().st_size)
    data = bytearray(blob.read_bytes())
    data[len(data) // 2] ^= 1
    blob.write_bytes(bytes(data))
    with tarfile.open(agent.home / "lie.tar", "w") as tar:
        tar.add(lie, ".")
    said = agent.trueup("load", str(agent.home / "lie.tar"), ok=(1,))
    assert "cannot" in said and "Traceback" not in said
    (agent.home / "images/cut.tar").unlink()


def test_a_spec_directory_that_vanishes(agent: AgentUnderTest) -> None:
    away = agent.home / "away"
    agent.specs.rename(away)
    agent.until("status says so", lambda: str(agent.specs) in agent.trueup("status"))
    assert "steady" in agent.pids()
    away.rename(agent.specs)


def test_errors_of_the_command_line_are_one_line(agent: AgentUnderTest) -> None:
    for words in (["logs", "nobody"], ["exec", "nobody", "true"], ["validate", "/no/such.yaml"], ["down", "/no/such"]):
        said = agent.trueup(*words, ok=(1,))
        assert "cannot" in said and "Traceback" not in said, said
