"""Images, networks, volumes, system and trueup's own endpoints over the in-memory runtime."""

from __future__ import annotations

import io
import json
import tarfile
from dataclasses import replace
from typing import Any

import pytest

from agent.engine_api.dockerfile import apply_changes
from agent.views import Change, PlanView, Problem, SpecFile, StepView
from runtime.engine.model import Healthcheck, ImageConfig
from runtime.errors import InvalidInput, Unauthorized
from tests.agent.engine_api.conftest import Served


def saved_image(tag: str) -> bytes:
    """A docker-save archive with one empty layer."""
    out = io.BytesIO()
    parts = {
        "manifest.json": json.dumps([{"Config": "c.json", "RepoTags": [tag], "Layers": ["l.tar"]}]).encode(),
        "c.json": json.dumps({"config": {"Cmd": ["sh"]}, "rootfs": {"diff_ids": []}}).encode(),
        "l.tar": b"\0" * 1024,
    }
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, data in parts.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return out.getvalue()


def lines(body: bytes) -> list[Any]:
    return [json.loads(line) for line in body.splitlines()]


# ------------------------------------------------------------ images


def test_pull_tells_its_story(served: Served) -> None:
    told = lines(served.request("POST", "/images/create?fromImage=alpine&tag=3.20").body)
    assert told[0] == {"status": "Pulling from library/alpine", "id": "3.20"}
    assert told[-1] == {"status": "Status: Downloaded newer image for alpine:3.20"}
    again = lines(served.request("POST", "/images/create?fromImage=alpine&tag=3.20").body)
    assert again[-1] == {"status": "Status: Image is up to date for alpine:3.20"}


def test_a_pull_that_fails_at_once_is_an_ordinary_error(served: Served) -> None:
    async def deny(operation: str, ref: str) -> None:
        if operation == "pull":
            raise Unauthorized("cannot pull: access denied")

    served.runtime.before = deny
    got = served.request("POST", "/images/create?fromImage=private/app&tag=1")
    assert got.status == 404
    assert got.message.startswith("pull access denied for private/app, repository does not exist or may require")
    assert served.request("POST", "/images/create?fromImage=app&platform=foobar").status == 400


def test_images(served: Served) -> None:
    served.call(served.runtime.pull("alpine:3.20"))
    assert served.request("POST", "/images/alpine:3.20/tag?repo=mine/app&tag=1").status == 201
    listed = served.get("/images/json")[0]
    assert listed["RepoTags"] == ["alpine:3.20", "mine/app:1"]
    shown = served.get("/images/mine%2Fapp:1/json")
    assert shown["Id"] == listed["Id"] and shown["Config"]["Cmd"] == ["sleep", "inf"]
    assert "Hostname" not in shown["Config"] and "Hostname" in served.get("/v1.41/images/alpine:3.20/json")["Config"]
    assert served.get('/images/json?filters={"reference":["mine/*"]}') and not served.get(
        '/images/json?filters={"reference":["other*"]}'
    )
    assert served.get('/images/json?filters={"dangling":["true"]}') == []
    assert served.request("GET", "/images/nothere/json").message == "No such image: nothere:latest"
    assert served.get("/images/alpine:3.20/history")[0]["Id"] == listed["Id"]
    refused = served.request("DELETE", f"/images/{listed['Id']}")
    assert refused.status == 409 and "image is referenced in multiple repositories" in refused.message


def test_load_and_import(served: Served) -> None:
    told = lines(served.request("POST", "/images/load", saved_image("app:7")).body)
    assert told == [{"stream": "Loaded image: app:7\n"}]
    broken = lines(served.request("POST", "/images/load", b"abc").body)
    assert "errorDetail" in broken[0]
    rootfs = io.BytesIO()
    with tarfile.open(fileobj=rootfs, mode="w:gz") as tar:
        tar.addfile(tarfile.TarInfo("etc"))
    path = "/images/create?fromSrc=-&repo=root&tag=1&changes=CMD%20%5B%22sh%22%5D"
    told = lines(served.request("POST", path, rootfs.getvalue()).body)
    assert told[0]["status"].startswith("sha256:")
    assert served.get("/images/root:1/json")["Config"]["Cmd"] == ["sh"]


def test_commit_takes_changes(served: Served) -> None:
    served.create("web", Cmd=["serve"])
    got = served.post("/commit?container=web&repo=made&tag=2&changes=CMD%20run", {"Env": ["A=b"]})
    shown = served.get(f"/v1.41/images/{got['Id']}/json")
    assert shown["Config"]["Cmd"] == ["/bin/sh", "-c", "run"]
    assert shown["Container"] == served.get("/containers/web/json")["Id"]


def test_distribution(served: Served) -> None:
    found = served.get("/distribution/alpine/json")
    assert found["Descriptor"]["digest"].startswith("sha256:")
    assert found["Platforms"] == [{"os": "linux", "architecture": "amd64"}]


def test_changes_are_dockerfile_lines() -> None:
    config = apply_changes(
        ImageConfig(environment=("A=1",), working_dir="/srv"),
        ['ENV A=2 B="x y"', "LABEL k=v\nEXPOSE 80 53/udp", 'VOLUME ["/d"]', "USER app", "WORKDIR sub", "ENV C d e"],
    )
    assert config.environment == ("A=2", "B=x y", "C=d e")
    assert (config.labels, config.exposed, config.volumes) == ({"k": "v"}, ("53/udp", "80/tcp"), ("/d",))
    assert (config.user, config.working_dir) == ("app", "/srv/sub")
    assert apply_changes(config, ["HEALTHCHECK NONE"]).healthcheck == Healthcheck(test=("NONE",))
    with pytest.raises(InvalidInput, match="RUN is not a valid change command"):
        apply_changes(config, ["RUN x"])


# ------------------------------------------------------------ networks


def test_networks(served: Served) -> None:
    ipam = {"Config": [{"Subnet": "10.9.0.0/24", "Gateway": "10.9.0.1", "AuxiliaryAddresses": {"a": "10.9.0.7"}}]}
    made = served.post("/networks/create", {"Name": "front", "IPAM": ipam, "Labels": {"a": "b"}})
    shown = served.get("/networks/front")
    assert shown["Id"] == made["Id"]
    assert shown["IPAM"] == {"Driver": "default", "Options": None, **ipam}
    assert served.request("POST", "/networks/create", {"Name": "front"}).status == 409
    served.create("web", Cmd=["sleep", "9"], HostConfig={"NetworkMode": "front"}, start=True)
    member = next(iter(served.get("/networks/front")["Containers"].values()))
    assert member["Name"] == "web" and member["IPv4Address"].startswith("10.9.0.")
    got = served.request("DELETE", "/networks/front")
    assert got.status == 403 and "has active endpoints" in got.message
    assert served.request("POST", "/networks/front/connect", {"Container": "web"}).status == 403
    assert served.request("POST", "/networks/front/disconnect", {"Container": "web"}).status == 200
    assert served.request("DELETE", f"/networks/{made['Id'][:8]}").status == 204


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"Name": ""}, 400, "network name cannot be empty"),
        ({"Name": "bridge"}, 403, "operation is not permitted on predefined bridge network"),
        ({"Name": "n", "Driver": "odd"}, 404, 'plugin "odd" not found'),
        ({"Name": "n", "Driver": "overlay"}, 503, "not a swarm manager"),
        ({"Name": "n", "IPAM": {"Config": [{"Subnet": "10.0.0.1/8"}]}}, 400, "invalid subnet"),
        ({"Name": "n", "IPAM": {"Config": [{"Subnet": "10.0.0.0/8", "Gateway": "11.0.0.1"}]}}, 400, "invalid gateway"),
    ],
)
def test_networks_refused(served: Served, body: dict[str, Any], status: int, words: str) -> None:
    got = served.request("POST", "/networks/create", body)
    assert got.status == status and words in got.message


def test_network_filters_and_prune(served: Served) -> None:
    served.post("/networks/create", {"Name": "idle"})
    names = [n["Name"] for n in served.get('/networks?filters={"type":["custom"]}')]
    assert names == ["idle"]
    assert [n["Name"] for n in served.get('/networks?filters={"dangling":["true"]}')] == ["idle"]
    assert served.post("/networks/prune") == {"NetworksDeleted": ["idle"]}
    assert served.request("DELETE", "/networks/none").status == 403


# ------------------------------------------------------------ volumes


def test_volumes(served: Served) -> None:
    made = served.post("/volumes/create", {"Name": "data", "DriverOpts": {"type": "tmpfs"}, "Labels": {"a": "b"}})
    assert (made["Name"], made["Driver"], made["Scope"]) == ("data", "local", "local")
    other = served.request("POST", "/volumes/create", {"Name": "data", "DriverOpts": {"type": "nfs"}})
    assert other.status == 409
    anonymous = served.post("/volumes/create", {})["Name"]
    assert len(anonymous) == 64
    served.create("user1", HostConfig={"Binds": ["data:/d"]})
    used = served.request("DELETE", "/volumes/data")
    assert used.status == 409 and used.message.startswith("remove data: volume is in use - [")
    assert served.request("GET", "/volumes/nothere").message == "get nothere: no such volume"
    assert served.request("DELETE", "/volumes/nothere?force=1").status == 204
    assert served.request("POST", "/volumes/create", {"Driver": "odd"}).status == 404
    assert served.request("POST", "/volumes/create", {"Name": "a/b"}).status == 400
    assert served.post("/volumes/prune")["VolumesDeleted"] == [anonymous]


# ------------------------------------------------------------ the daemon


def test_info_version_df(served: Served) -> None:
    served.create("web", start=True, Cmd=["sleep", "9"])
    info = served.get("/info")
    assert (info["Containers"], info["ContainersRunning"], info["Swarm"]["LocalNodeState"]) == (1, 1, "inactive")
    assert "BridgeNfIptables" in served.get("/v1.41/info") and "BridgeNfIptables" not in info
    df = served.get("/system/df")
    assert df["ImageUsage"]["TotalCount"] == 1 and "Images" not in df
    assert len(served.get("/v1.41/system/df")["Containers"]) == 1
    assert served.get("/v1.44/system/df?type=volume")["Containers"] == []


# ------------------------------------------------------------ trueup's own


def test_plan_carries_the_problems_of_specs(served: Served) -> None:
    problem = Problem(path="/s/a.yaml", line=3, column=1, message='cannot use "x"')
    file = SpecFile(path="/s/a.yaml", state="invalid", problems=(problem,))
    served.control.state = replace(served.control.state, files=(file,))
    step = StepView(id="1", kind="start", project="a", service="w", target="a-w-1", text="start a-w-1", cause="because")
    change = Change(
        project="a", service="w", target="a-w-1", field="image", old="1", new="2", cls="recreate", reason="r"
    )
    served.control.shown = PlanView(id="p", steps=(step,), changes=(change,))
    plan = served.post("/trueup/v1/plan", {"paths": None})
    assert plan["problems"][0]["line"] == 3 and plan["steps"][0]["cause"] == "because"
    assert served.post("/trueup/v1/down", {"target": "a", "volumes": True})["id"] == "p"
    assert served.control.asked[-1] == ("down", "a", True)
    assert served.get("/trueup/v1/why?service=a/w") == ["a/w is ready"]
    assert served.request("GET", "/trueup/v1/why?service=missing").status == 404
    assert served.request("GET", "/trueup/v1/why").status == 400
    assert served.get("/trueup/v1/status")["files"][0]["state"] == "invalid"
