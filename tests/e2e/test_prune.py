"""Images that go by themselves: a real agent on a small disk that fills."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from examples.make_image import find_busybox, layer
from tests.e2e.harness import IMAGE, AgentUnderTest
from tests.runtime.image.registry_fake import FakeRegistry
from tests.runtime.image.test_power_cut import disk
from tests.runtime.image.world import pack

pytestmark = pytest.mark.privileged
MIB = 1 << 20
SETTINGS = "[prune]\nhigh = 0.8\nlow = 0.6\nmin_age = 3600\nlook = 0.2\ncollect = 1.0\nrevisions = 2\n"
SERVICE = "services:\n  box: {image: '%s', command: [sleep, '86422'], stop_signal: SIGKILL}\n"


@pytest.fixture
def agent(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[AgentUnderTest]:
    """An agent whose data root is a disk of 192 MiB."""
    (scratch / "disk").write_bytes(b"")
    os.truncate(scratch / "disk", 192 * MIB)
    if subprocess.run(["mkfs.ext4", "-q", "-m0", scratch / "disk"], check=False, capture_output=True).returncode:
        pytest.skip("peer: cannot make an ext4")
    (scratch / "agent.toml").write_text(SETTINGS)
    monkeypatch.setenv("TRUEUP_CONFIG", str(scratch / "agent.toml"))
    (scratch / "data").mkdir()
    with disk(scratch / "disk", scratch / "data"), AgentUnderTest(scratch) as running:
        running.until("the image is there", lambda: names(running) == {IMAGE})
        yield running


def content() -> list[bytes]:
    """Layers of busybox and 8 MiB of noise."""
    noise = io.BytesIO()
    with tarfile.open(fileobj=noise, mode="w") as tar:
        member = tarfile.TarInfo("noise")
        member.size = 8 * MIB
        tar.addfile(member, io.BytesIO(os.urandom(8 * MIB)))
    return [layer(find_busybox()), noise.getvalue()]


def archive_of(agent: AgentUnderTest, name: str) -> Path:
    """An image of busybox and noise, as `docker save` writes it."""
    layers = {f"{number}/layer.tar": data for number, data in enumerate(content())}
    config = {
        "architecture": "amd64", "os": "linux", "config": {"Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(d).hexdigest()}" for d in layers.values()]},
    }  # fmt: skip
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": list(layers)}]
    files = {**layers, "config.json": json.dumps(config).encode(), "manifest.json": json.dumps(manifest).encode()}
    path = agent.home / "archive.tar"
    with tarfile.open(path, "w") as tar:
        for member_name, data in files.items():
            member = tarfile.TarInfo(member_name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def load(agent: AgentUnderTest, name: str) -> str:
    """Such an image, loaded; its id."""
    agent.trueup("load", str(archive_of(agent, name)))
    return str(agent.api(f"/images/{name}/json")["Id"])


def pull(agent: AgentUnderTest, registry: FakeRegistry, name: str) -> str:
    """Such an image, fetched from a registry and given this name; its id."""
    reference = registry.serve(pack(content(), Env=["PATH=/bin"]), *name.split(":"))
    agent.trueup("pull", reference)
    return str(agent.api(f"/images/{reference}/json")["Id"])


def names(agent: AgentUnderTest) -> set[str]:
    """Tags of all images."""
    return {tag for image in agent.api("/images/json") or [] for tag in image["RepoTags"] or ()}


def age(agent: AgentUnderTest, identity: str, hours: float) -> None:
    """As if the image had not been used for so long."""
    then = time.time() - hours * 3600
    os.utime(agent.home / "data/images/blobs/sha256" / identity.removeprefix("sha256:"), (then, then))


def fill(agent: AgentUnderTest, share: float) -> None:
    """Somebody else's file takes the disk."""
    found = os.statvfs(agent.home / "data")
    wanted = found.f_bavail * found.f_frsize - int((1 - share) * found.f_blocks * found.f_frsize)
    with open(agent.home / "data/filler", "ab") as file:
        os.posix_fallocate(file.fileno(), file.tell(), wanted)


def used(agent: AgentUnderTest) -> float:
    """The share of the disk that is taken."""
    found = os.statvfs(agent.home / "data")
    return 1 - found.f_bavail / found.f_blocks


def test_a_full_disk_takes_what_nobody_needs_and_says_so(agent: AgentUnderTest) -> None:
    spec = agent.specs / "app.yaml"
    with FakeRegistry() as registry:
        for number in (1, 2, 3):
            identity = pull(agent, registry, f"app:{number}")
            spec.write_text(SERVICE % f"{registry.host}/app:{number}")
            agent.until(f"app:{number} runs", lambda i=identity: agent.containers()["box"]["Image"] == i)  # type: ignore[misc]
            agent.settled()
        for name in ("used:1", "young:1", "old:1"):
            pull(agent, registry, name)
    load(agent, "loaded:1")
    for image in agent.api("/images/json"):
        if f"{registry.host}/young:1" not in image["RepoTags"]:
            age(agent, image["Id"], 100)
    made = agent.api("/containers/create?name=once", "POST", {"Image": f"{registry.host}/used:1", "Cmd": ["true"]})
    agent.api(f"/containers/{made['Id']}/start", "POST")
    agent.api(f"/containers/{made['Id']}/wait", "POST")
    agent.api(f"/containers/{made['Id']}", "DELETE")
    stays = {IMAGE, "loaded:1", *(f"{registry.host}/{name}" for name in ("app:2", "app:3", "used:1", "young:1"))}
    gone = {f"{registry.host}/{name}" for name in ("app:1", "old:1")}
    assert names(agent) == stays | gone
    fill(agent, 0.85)
    agent.until("what nobody needs is gone", lambda: names(agent) == stays)
    assert agent.pids()["box"]
    agent.until("it was said", lambda: f"image {registry.host}/old:1 pruned — disk 8" in agent.log.read_text())
    assert "unused for 100 h: " in agent.log.read_text()
    entries = agent.api("/trueup/v1/journal?limit=200") or []
    assert {e["target"] for e in entries if e["kind"] == "prune image"} == gone


def test_when_nothing_may_go_a_person_is_told(agent: AgentUnderTest) -> None:
    load(agent, "young:1")
    fill(agent, 0.9)
    agent.until("status says it", lambda: "too young to go" in agent.trueup("status"))
    assert names(agent) == {IMAGE, "young:1"}
    (agent.home / "data/filler").unlink()
    agent.until("status is quiet again", lambda: "too young to go" not in agent.trueup("status"))


def test_what_nothing_refers_to_is_collected_by_itself(agent: AgentUnderTest) -> None:
    blobs = agent.home / "data/images/blobs/sha256"
    layers = agent.home / "data/layers/sha256"
    rubbish = [blobs / ("0" * 64), layers / ("1" * 64)]
    rubbish[0].write_bytes(b"nobody names me")
    rubbish[1].mkdir()
    agent.until("it is gone", lambda: not any(path.exists() for path in rubbish))
    assert names(agent) == {IMAGE}


@pytest.mark.parametrize("room", [1, 5, 12])
def test_a_disk_that_fills_meanwhile_is_said_and_gives_its_space_back(room: int, agent: AgentUnderTest) -> None:
    """The archive has 10 MiB and takes as much again unpacked: it ends while it is read, stored or unpacked."""
    load(agent, "young:1")
    spec = agent.specs / "app.yaml"
    spec.write_text(SERVICE % "young:1")
    agent.running("box")
    pid = agent.pids()["box"]
    archive = archive_of(agent, "more:1")
    found = os.statvfs(agent.home / "data")
    fill(agent, 1 - room * MIB / (found.f_blocks * found.f_frsize))
    said = agent.trueup("load", str(archive), ok=(1,))
    error = said.splitlines()[-1].lower()
    assert error.startswith("trueup: cannot ") and "no space left" in error and "system prune" in error, said
    assert names(agent) == {IMAGE, "young:1"}
    after = os.statvfs(agent.home / "data")
    assert after.f_bavail * after.f_frsize > (room - 1) * MIB, "its space is not given back"
    assert agent.pids()["box"] == pid
    (agent.home / "data/filler").unlink()
    assert "Loaded image: more:1" in agent.trueup("load", str(archive))
