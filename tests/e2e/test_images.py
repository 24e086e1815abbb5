"""Images through the command line of a real agent: archives and registries, well and badly."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.harness import IMAGE, REPOSITORY, AgentUnderTest, environment
from tests.runtime.image.registry_fake import FakeRegistry, slowly
from tests.runtime.image.world import digest_of, make

pytestmark = pytest.mark.privileged


@pytest.fixture
def agent(scratch: Path) -> Iterator[AgentUnderTest]:
    """An agent that has the busybox image and nothing to do."""
    with AgentUnderTest(scratch) as running:
        running.until("the image is there", lambda: bool(running.api("/images/json")))
        yield running


def give(agent: AgentUnderTest, *words: str, data: bytes) -> subprocess.CompletedProcess[bytes]:
    """A `trueup` command with something on its stdin."""
    command = [sys.executable, "-m", "agent", words[0], *agent.options, *words[1:]]
    return subprocess.run(command, input=data, capture_output=True, cwd=REPOSITORY, env=environment(agent), check=False)


def stored(agent: AgentUnderTest) -> set[str]:
    """Every blob and layer of the data root, and what lies about half-done."""
    data = agent.home / "data"
    places = ("images/blobs/sha256", "layers/sha256", "images/ingest", "layers/tmp")
    names = {f"{place}/{name}" for place in places for name in os.listdir(data / place)}
    return {name for name in names if "/unsettled-" not in name}


def tar(files: dict[str, bytes]) -> bytes:
    """An archive of regular files."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return out.getvalue()


# ---------------------------------------------------------------- archives


def test_what_is_no_archive_is_refused_in_words(agent: AgentUnderTest) -> None:
    for data, saying in ((b"abc", b"the archive is damaged"), (tar({"a": b"b"}), b"neither an OCI layout nor")):
        done = give(agent, "load", "-", data=data)
        assert done.returncode == 1
        assert done.stderr.startswith(b"trueup: cannot load the archive: ") and saying in done.stderr
        assert str(agent.home).encode() not in done.stderr


def test_an_archive_that_lies_at_its_end_leaves_nothing(agent: AgentUnderTest) -> None:
    before = stored(agent)
    layer = tar({f"file{number}": os.urandom(100_000) for number in range(40)})
    manifest = [{"Config": "gone.json", "RepoTags": ["x:1"], "Layers": ["0/layer.tar"]}]
    archive = tar({"0/layer.tar": layer, "1/layer.tar": layer + layer, "manifest.json": json.dumps(manifest).encode()})
    done = give(agent, "load", "-", data=archive)
    assert b"it names 'gone.json', which is not in it" in done.stderr
    agent.until("nothing is left", lambda: stored(agent) <= before)


def test_a_client_that_leaves_in_the_middle_leaves_nothing(agent: AgentUnderTest) -> None:
    before = stored(agent)
    head = b"POST /images/load HTTP/1.1\r\nHost: x\r\nContent-Length: 9000000\r\n\r\n"
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(agent.socket))
        client.sendall(head + tar({"0/layer.tar": tar({"file": os.urandom(4_000_000)})}))
        agent.until("it has been read", lambda: len(stored(agent)) > len(before))
    agent.until("nothing is left", lambda: stored(agent) <= before)


def test_save_and_import(agent: AgentUnderTest, scratch: Path) -> None:
    root = scratch / "root.tar"
    root.write_bytes(tar({"etc/motd": b"hello\n"}))
    said = agent.trueup("import", "-c", 'CMD ["/bin/sh"]', "-m", "by hand", str(root), "mini:1")
    made = agent.api("/images/mini:1/json")
    assert said.strip() == made["Id"] and made["Config"]["Cmd"] == ["/bin/sh"]
    assert agent.api("/images/mini:1/history")[0]["Comment"] == "by hand"
    agent.trueup("save", "-o", str(scratch / "both.tar"), "mini:1", IMAGE)
    piped = give(agent, "save", "mini:1", IMAGE, data=b"").stdout
    assert piped == (scratch / "both.tar").read_bytes()
    agent.api("/images/mini:1", "DELETE")
    assert "Loaded image: mini:1" in agent.trueup("load", str(scratch / "both.tar"))
    assert agent.api("/images/mini:1/json")["Id"] == made["Id"]
    refused = agent.trueup("save", "-o", str(scratch / "none.tar"), "nothere:1", ok=(1,))
    assert "No such image: nothere:1" in refused
    assert not list(scratch.glob("none.tar*"))
    assert "cannot load the archive: it is empty" in give(agent, "import", "-", data=b"").stderr.decode()


def test_what_takes_the_disk_and_what_may_go(agent: AgentUnderTest, scratch: Path) -> None:
    for number in (1, 2):
        (scratch / "root.tar").write_bytes(tar({"etc/motd": b"x" * 100_000 * number}))
        agent.trueup("import", str(scratch / "root.tar"), "mini:1")  # the first one loses its name
    rows = [line.split() for line in agent.trueup("system", "df", "-v").splitlines()]
    kinds = [row[0] for row in rows if row]
    assert kinds.count("image") == 3 and kinds.count("layer") == 3
    assert ["image", "mini:1", "200", "kB", "200", "kB", "0", "containers"] in rows
    storage = json.loads(agent.trueup("system", "df", "--json"))["Storage"]
    assert sum(layer["size"] for layer in storage["layers"]) > 300_000
    said = agent.trueup("system", "prune")
    assert "deleted: sha256:" in said and "freed: " in said and "freed: 0 B" not in said
    assert len(agent.api("/images/json")) == 2
    agent.trueup("system", "prune", "--all")
    assert agent.api("/images/json") == []
    assert json.loads(agent.trueup("system", "df", "--json"))["Storage"]["layers"] == []


# ---------------------------------------------------------------- registries


def test_a_pull_goes_on_where_it_was_when_the_agent_died(agent: AgentUnderTest) -> None:
    image = make({"big": os.urandom(4_000_000)}, Cmd=["/big"])
    layer = image.layers[0]
    with FakeRegistry(faults={f"/blobs/sha256:{hashlib.sha256(layer).hexdigest()}": [slowly] * 9}) as registry:
        name = registry.serve(image)
        pull = subprocess.Popen([sys.executable, "-m", "agent", "pull", *agent.options, name], env=environment(agent))
        ingest = agent.home / "data/images/ingest"

        def fetched() -> int:
            return max((path.stat().st_size for path in ingest.glob("partial-*")), default=0)

        agent.until("some of it is here", lambda: fetched() > len(layer) // 4)
        agent.stop(signal.SIGKILL)
        pull.wait()
        had = fetched()
        agent.start()
        agent.trueup("pull", name)
        assert agent.api(f"/images/{name}/json")["Id"] == image.id
        again = [seen.headers.get("range", "") for seen in registry.asked("GET", f"/blobs/{digest_of(layer)}")][1:]
        assert len(again) == 1 and had * 0.95 <= int(again[0].removeprefix("bytes=").rstrip("-")) < len(layer)


def test_bars_on_a_terminal_and_lines_in_a_pipe(agent: AgentUnderTest) -> None:
    image = make({"big": os.urandom(4_000_000)}, {"small": b"1"}, Cmd=["/big"])
    with FakeRegistry(faults={"/blobs/": [slowly] * 9}) as registry:
        name = registry.serve(image)
        command = " ".join([sys.executable, "-m", "agent", "pull", *agent.options, name])
        shown = subprocess.run(
            ["script", "-qec", command, "/dev/null"], capture_output=True, text=True, check=True, cwd=REPOSITORY,
            env=environment(agent) | {"TERM": "xterm", "COLUMNS": "100"},
        ).stdout  # fmt: skip
        for digest in (digest_of(layer) for layer in image.layers):
            assert re.search(rf"{digest[7:19]}.*Downloading.*━.*/\S+ ", shown), shown
        assert f"Status: Downloaded newer image for {name}" in shown
        agent.api(f"/images/{name}", "DELETE")
        piped = agent.trueup("pull", name).splitlines()
        assert "\x1b" not in "".join(piped) and len(piped) == len(set(piped))
        assert {f"{digest_of(layer)[7:19]}: Pull complete" for layer in image.layers} <= set(piped)


def test_nobody_there_is_said_in_words(agent: AgentUnderTest) -> None:
    said = agent.trueup("pull", "127.0.0.1:1/app:1", ok=(1,))
    assert said == "trueup: cannot pull 127.0.0.1:1/app:1: cannot reach 127.0.0.1:1: connection refused\n"
