"""`trueup down --all` beside what the Docker API made."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.e2e.harness import IMAGE, AgentUnderTest

pytestmark = pytest.mark.privileged

SPEC = f"""
services:
  web:
    image: {IMAGE}
    command: [sleep, infinity]
    volumes: ["data:/data"]
    stop_signal: SIGKILL
volumes:
  data: {{}}
"""

BY_COMPOSE = {"com.docker.compose.project": "app", "com.docker.compose.service": "web"}
"""As a Compose client on our API labels what it makes."""


def test_what_no_project_owns_stays_and_is_named(scratch: Path) -> None:
    agent = AgentUnderTest(scratch)
    (agent.specs / "app.yaml").write_text(SPEC)
    with agent:
        agent.running("web")
        body = {
            "Image": IMAGE,
            "Cmd": ["sleep", "1000"],
            "Labels": BY_COMPOSE,
            "HostConfig": {"Binds": ["kept:/kept"], "NetworkMode": "net"},
        }
        assert agent.api("/networks/create", "POST", {"Name": "net"})
        id = agent.api("/containers/create?name=mine", "POST", body)["Id"]
        assert agent.api(f"/containers/{id}/start", "POST") is not None
        pid = agent.api("/containers/mine/json")["State"]["Pid"]
        left = [f"left: {what}, which is of no project" for what in ("container mine", "network net", "volume kept")]
        assert [line for line in agent.trueup("down", "--all").splitlines() if line.startswith("left:")] == left
        agent.trueup("up", "app")
        agent.running("web")
        agent.stop(signal.SIGKILL)
        said = agent.trueup("down", "--all", "--volumes").splitlines()
        assert [line for line in said if line.startswith("left:")] == left
        assert "app: remove volume app_data" in said
        (agent.specs / "app.yaml").unlink()
        agent.start()
        assert [c["Names"] for c in agent.api("/containers/json?all=1")] == [["/mine"]]
        assert agent.api("/containers/mine/json")["State"]["Pid"] == pid, "it runs on"
        assert [v["Name"] for v in agent.api("/volumes")["Volumes"]] == ["kept"]
        for path in ("containers/mine?force=1", "networks/net", "volumes/kept"):
            assert agent.api(f"/{path}", "DELETE") is not None
        agent.stop(signal.SIGTERM)
        assert "left:" not in agent.trueup("down", "--all", "--volumes")
