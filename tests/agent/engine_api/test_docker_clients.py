"""The real docker program and docker-py against the server, over the in-memory runtime."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator

import docker
import pytest
from docker.errors import APIError, ImageNotFound, NotFound

from runtime.engine.memory_io import MemoryExec
from runtime.errors import KernelRefused
from tests.agent.engine_api.conftest import Served
from tests.agent.engine_api.test_objects import saved_image

needs_docker = pytest.mark.skipif(not shutil.which("docker"), reason="no docker program")


def cli(served: Served, *words: str, stdin: bytes = b"", ok: tuple[int, ...] = (0,)) -> str:
    done = subprocess.run(
        ["docker", "-H", f"unix://{served.path}", *words], input=stdin, capture_output=True, timeout=30
    )
    output = (done.stdout + done.stderr).decode()
    assert done.returncode in ok, output
    return output


@needs_docker
@pytest.mark.peer
def test_an_hour_of_docker_in_a_minute(served: Served) -> None:
    assert "API version:      1.55 (minimum version 1.24)" in cli(served, "version")
    assert "Server Version: 0.1.0" in cli(served, "info")
    assert "Status: Downloaded newer image for alpine:3.20" in cli(served, "pull", "alpine:3.20")
    assert cli(served, "run", "--rm", "alpine:3.20", "echo", "hi") == "hi\n"
    assert cli(served, "run", "--rm", "alpine:3.20", "exit", "7", ok=(7,)) == ""
    cli(
        served,
        "run",
        "-d",
        "--name",
        "web",
        "-p",
        "8080:80",
        "-v",
        "data:/d",
        "-e",
        "A=b",
        "alpine:3.20",
        "sleep",
        "99",
    )
    assert "0.0.0.0:8080->80/tcp" in cli(served, "ps")
    assert cli(served, "inspect", "-f", "{{.State.Status}} {{index .Config.Env 0}}", "web") == "running A=b\n"
    assert cli(served, "exec", "web", "echo", "inside") == "inside\n"
    assert cli(served, "port", "web") == "80/tcp -> 0.0.0.0:8080\n"
    assert "web" in cli(served, "stats", "--no-stream")
    cli(served, "pause", "web")
    assert "(Paused)" in cli(served, "ps")
    cli(served, "unpause", "web")
    cli(served, "rename", "web", "shop")
    cli(served, "update", "--memory", "64m", "--memory-swap", "64m", "shop")
    cli(served, "restart", "-t", "1", "shop")
    cli(served, "stop", "-t", "1", "shop")
    assert "Exited (143)" in cli(served, "ps", "-a", "--filter", "name=shop")
    assert "is in use" in cli(served, "volume", "rm", "data", ok=(1,))
    cli(served, "rm", "-v", "shop")
    assert "data" in cli(served, "volume", "ls", "-q")
    assert "Deleted Volumes:\ndata" in cli(served, "volume", "prune", "-af")
    cli(served, "network", "create", "--subnet", "10.7.0.0/24", "front")
    assert cli(served, "network", "inspect", "-f", "{{(index .IPAM.Config 0).Subnet}}", "front") == "10.7.0.0/24\n"
    cli(served, "network", "rm", "front")
    assert cli(served, "load", stdin=saved_image("app:7")) == "Loaded image: app:7\n"
    cli(served, "tag", "app:7", "app:8")
    assert "app" in cli(served, "images", "--filter", "reference=app*")
    assert "Total reclaimed space" in cli(served, "system", "prune", "-f")
    assert "TYPE" in cli(served, "system", "df")
    assert "not a swarm manager" in cli(served, "node", "ls", ok=(1,))
    assert "No such container: nothere" in cli(served, "logs", "nothere", ok=(1,))


@pytest.fixture
def client(served: Served) -> Iterator[docker.DockerClient]:
    made = docker.DockerClient(base_url=f"unix://{served.path}", version="auto")
    yield made
    made.close()


def test_docker_py(served: Served, client: docker.DockerClient) -> None:
    assert client.ping() and client.version()["ApiVersion"] == "1.55"
    assert client.images.pull("alpine", tag="3.20").tags == ["alpine:3.20"]
    assert client.containers.run("alpine:3.20", ["echo", "hi"], remove=True) == b"hi\n"
    web = client.containers.run("alpine:3.20", ["sleep", "99"], name="web", detach=True, labels={"a": "b"})
    assert web.status == "created"
    web.reload()
    assert web.status == "running" and web.labels == {"a": "b"}
    assert web.exec_run(["echo", "x"]) == (0, b"x\n")
    assert web.exec_run(["no-such"]).exit_code == 127
    assert [c.name for c in client.containers.list(filters={"label": "a=b"})] == ["web"]
    with pytest.raises(APIError, match="You cannot remove a running container"):
        web.remove()
    web.stop(timeout=1)
    assert web.wait()["StatusCode"] == 143
    web.remove()
    with pytest.raises(NotFound):
        client.containers.get("web")
    with pytest.raises(ImageNotFound):
        client.images.get("nothere")


@pytest.mark.parametrize("version", ["1.24", "1.30", "1.41", "1.44", "1.47", "1.52", "1.55"])
def test_every_age_of_client_is_answered(served: Served, version: str) -> None:
    served.create("web", Cmd=["sleep", "9"], start=True)
    for path in (
        "/info",
        "/version",
        "/containers/json",
        "/containers/web/json",
        "/images/json",
        "/networks",
        "/volumes",
    ):
        assert served.get(f"/v{version}{path}")
    assert served.get(f"/v{version}/images/alpine/json")["Id"]
    assert served.get(f"/v{version}/containers/web/stats?stream=0&one-shot=1")["id"]
    assert served.get(f"/v{version}/system/df")


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (FileNotFoundError(2, "No such file or directory"), b"cannot exec in container web: No such file or directory"),
        (AttributeError("a mistake of ours"), b"cannot answer: internal error (AttributeError), see the agent's log"),
    ],
)
def test_an_exec_that_could_not_be_tried_is_no_success(
    served: Served, client: docker.DockerClient, monkeypatch: pytest.MonkeyPatch, fault: Exception, said: bytes
) -> None:
    served.create("web", Cmd=["sleep", "99"], start=True)

    async def fail(*_: object) -> None:
        raise fault

    monkeypatch.setattr(served.runtime, "exec", fail)
    assert client.containers.get("web").exec_run(["true"]) == (126, said + b"\r\n")
    made = served.post("/containers/web/exec", {"Cmd": ["true"]})["Id"]
    assert served.request("POST", f"/exec/{made}/start", {"Detach": True}).status >= 500
    assert served.get(f"/exec/{made}/json")["ExitCode"] == 126


def test_an_exec_whose_end_nobody_saw_is_no_success(
    served: Served, client: docker.DockerClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    served.create("web", Cmd=["sleep", "99"], start=True)

    async def lost(*_: object) -> int:
        raise KernelRefused("cannot go on: the other process ended without an answer")

    monkeypatch.setattr(MemoryExec, "wait", lost)
    assert client.containers.get("web").exec_run(["echo", "x"]) == (255, b"x\n")
