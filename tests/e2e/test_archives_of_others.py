"""Archives go both ways between us, dockerd, podman, skopeo and umoci, and what comes out of them runs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from examples.make_image import find_busybox, layer
from tests import leaks
from tests.e2e.docker_cli.engines import DOCKER, free_ports, theirs
from tests.e2e.harness import IMAGE, AgentUnderTest

pytestmark = [pytest.mark.privileged, pytest.mark.peer, pytest.mark.timeout(240)]
RUN = 'run --rm --network none app:1 sh -c "cat /second; exit 7"'


def needs(*programs: str) -> pytest.MarkDecorator:
    """Skip without these."""
    missing = [name for name in programs if not shutil.which(name)]
    return pytest.mark.skipif(bool(missing), reason=f"peer: not installed: {', '.join(missing)}")


@pytest.fixture
def agent(scratch: Path) -> Iterator[AgentUnderTest]:
    """An agent that has the busybox image."""
    home = scratch / "ours"
    home.mkdir()
    with AgentUnderTest(home) as running:
        running.until("the image is there", lambda: bool(running.api("/images/json")))
        yield running


def runs_here(agent: AgentUnderTest, reference: str) -> None:
    """The image's second layer can be read in a container of ours."""
    made = agent.api("/containers/create", "POST", {"Image": reference, "Cmd": ["sh", "-c", "cat /second; exit 7"]})
    agent.api(f"/containers/{made['Id']}/start", "POST")
    assert agent.api(f"/containers/{made['Id']}/wait", "POST")["StatusCode"] == 7
    logs = agent.api(f"/containers/{made['Id']}/logs?stdout=1")
    agent.api(f"/containers/{made['Id']}", "DELETE")
    assert "hello" in logs


def ours(agent: AgentUnderTest, path: Path) -> Path:
    """An archive of an image that we made in two layers."""
    made = agent.api("/containers/create", "POST", {"Image": IMAGE, "Cmd": ["sh", "-c", "echo hello > /second"]})
    agent.api(f"/containers/{made['Id']}/start", "POST")
    agent.api(f"/containers/{made['Id']}/wait", "POST")
    agent.api(f"/commit?container={made['Id']}&repo=app&tag=1", "POST", {})
    agent.api(f"/containers/{made['Id']}", "DELETE")
    agent.trueup("save", "-o", str(path), "app:1")
    return path


# ---------------------------------------------------------------- dockerd


@needs("dockerd", "docker-registry")
def test_dockerd(agent: AgentUnderTest, scratch: Path) -> None:
    home = scratch / "theirs"
    home.mkdir()
    (home / "root.tar").write_bytes(layer(find_busybox()))
    with theirs(home, free_ports()) as typist:

        def docker(line: str) -> subprocess.CompletedProcess[str]:
            command = f"{DOCKER} -H unix://{typist.socket} {line}"
            return subprocess.run(command, shell=True, capture_output=True, text=True, check=False)

        assert docker(f"load -i {ours(agent, scratch / 'ours.tar')}").stdout == "Loaded image: app:1\n"
        done = docker(RUN)
        assert (done.stdout, done.returncode) == ("hello\n", 7), done.stderr
        for line in (
            f"import -c 'ENV PATH=/bin' {home / 'root.tar'} base:1",
            "run --name made --network none base:1 sh -c 'echo hello > /second'",
            "commit made other:1",
            f"save -o {scratch / 'docker.tar'} other:1 base:1",
        ):
            assert docker(line).returncode == 0, line
    said = agent.trueup("load", str(scratch / "docker.tar"))
    assert {"Loaded image: other:1", "Loaded image: base:1"} <= set(said.splitlines())
    runs_here(agent, "other:1")


# ---------------------------------------------------------------- podman


@needs("podman", "crun", "runc")
def test_podman(agent: AgentUnderTest, scratch: Path) -> None:
    home = scratch / "theirs"
    home.mkdir()
    (home / "root.tar").write_bytes(layer(find_busybox()))
    archive = ours(agent, scratch / "ours.tar")
    group = f"/trueup-{leaks.MARK}-podman"
    script = f"""
        set -e
        ip link set lo up; mount -t tmpfs tmpfs /run; mkdir -p /run/lock
        for d in /var/lib/containers /var/lib/cni; do [ ! -d $d ] || mount -t tmpfs tmpfs $d; done
        p="podman --root {home}/root --runroot {home}/run --tmpdir {home}/tmp --storage-driver vfs"
        $p load -q -i {archive}
        $p --runtime runc --cgroup-manager cgroupfs run --rm --network none --cgroup-parent {group} app:1 cat /second
        $p import -q -c ENV=PATH=/bin {home}/root.tar localhost/base:1
        made=$($p create --network none --cgroups disabled localhost/base:1 true)
        echo hello > {home}/second; $p cp {home}/second $made:/second
        $p commit -q $made localhost/other:1
        $p save -q --format docker-archive -o {scratch}/podman.tar localhost/other:1
        $p save -q --format oci-archive -o {scratch}/podman-oci.tar localhost/other:1
        $p save -q --format oci-dir -o {scratch}/podman-dir localhost/other:1
    """
    enclosed = ("unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", script)
    done = subprocess.run(enclosed, capture_output=True, text=True, check=False)
    leaks.remove_groups(group)
    assert done.returncode == 0, done.stderr
    assert "hello" in done.stdout.splitlines()
    ids = set()
    for name in ("podman.tar", "podman-oci.tar", "podman-dir"):
        said = agent.trueup("load", str(scratch / name))
        assert "Loaded image: localhost/other:1" in said, said
        ids.add(agent.api("/images/localhost/other:1/json")["RootFS"]["Layers"][-1])
        runs_here(agent, "localhost/other:1")
        agent.api("/images/localhost/other:1", "DELETE")
    assert len(ids) == 1


# ---------------------------------------------------------------- tools on the layout


@needs("skopeo", "umoci")
def test_tools_read_the_store_and_layouts_come_back(agent: AgentUnderTest, scratch: Path) -> None:
    ours(agent, scratch / "ours.tar")
    store = f"{agent.home}/data/images"
    shown = subprocess.run(
        ["skopeo", "inspect", f"oci:{store}:docker.io/library/app:1"], capture_output=True, text=True, check=True
    )
    assert len(json.loads(shown.stdout)["Layers"]) == 2
    subprocess.run(
        ["skopeo", "copy", "-q", f"oci:{store}:docker.io/library/app:1", f"oci:{scratch}/layout:app"], check=True
    )
    subprocess.run(["umoci", "unpack", "--image", f"{scratch}/layout:app", scratch / "bundle"], check=True)
    assert (scratch / "bundle/rootfs/second").read_text() == "hello\n"
    config = json.loads((scratch / "bundle/config.json").read_text())
    assert config["process"]["args"] == ["/bin/sh", "-c", "echo hello > /second"] or config["process"]["args"]
    subprocess.run(["tar", "-C", scratch / "layout", "-cf", scratch / "layout.tar", "."], check=True)
    image = agent.api("/images/app:1/json")["Id"]
    agent.api("/images/app:1", "DELETE")
    for path in (scratch / "layout.tar", scratch / "layout"):
        assert f"Loaded image ID: {image}" in agent.trueup("load", str(path))
        runs_here(agent, image)
        agent.api(f"/images/{image}", "DELETE")
    os.rename(scratch / "layout", agent.home / "images/layout")
    agent.until("the layout is imported", lambda: agent.api(f"/images/{image}/json") is not None, 40)
