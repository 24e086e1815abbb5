"""Containers through the API over the in-memory runtime: states, answers, filters, streams."""

from __future__ import annotations

import json
import struct
import time
from typing import Any

import pytest

from agent.control import Health
from agent.engine_api.containers import signal_name
from agent.settings import ApiPolicy, ApiSettings
from runtime.engine.model import ContainerConfig, Mount
from runtime.errors import InvalidInput
from tests.agent.engine_api.conftest import Serve, Served

FORBIDDEN = ApiPolicy(privileged=False, host_namespaces=False, host_paths=False, devices=False, capabilities=False)


def names(served: Served, **filters: list[str]) -> list[str]:
    tree = served.get(f"/containers/json?all=1&filters={json.dumps(filters).replace(' ', '')}")
    return sorted(c["Names"][0] for c in tree)


def test_signals_by_any_name() -> None:
    given = ("", "TERM", "sigterm", "15", "rtmin+3", "37")
    assert [signal_name(text) for text in given] == ["", "SIGTERM", "SIGTERM", "SIGTERM", "SIGRTMIN+3", "37"]
    for bad in ("FOO", "0", "99", "TERM+1"):
        with pytest.raises(InvalidInput, match=bad.replace("+", r"\+")):
            signal_name(bad)


def test_life(served: Served) -> None:
    id = served.create("web", Cmd=["sleep", "1000"])
    assert served.get("/containers/json") == []
    assert served.request("POST", f"/containers/{id}/start").status == 204
    assert served.request("POST", f"/containers/{id[:10]}/start").status == 304
    listed = served.get("/containers/json")[0]
    assert (listed["Names"], listed["State"], listed["Status"]) == (["/web"], "running", "Up Less than a second")
    assert served.request("DELETE", "/containers/web").message.startswith(f"You cannot remove a running container {id}")
    assert served.request("POST", "/containers/web/pause").status == 204
    assert served.request("POST", "/containers/web/pause").status == 409
    assert served.request("POST", "/containers/web/start").message.startswith("cannot start a paused container")
    assert served.request("POST", "/containers/web/unpause").status == 204
    assert served.request("POST", "/containers/web/rename?name=shop").status == 204
    assert served.request("POST", "/containers/shop/stop?t=1").status == 204
    assert served.request("POST", "/containers/shop/stop").status == 304
    assert served.post("/containers/shop/wait") == {"StatusCode": 143}
    assert served.request("POST", "/containers/shop/kill").status == 409
    assert served.request("DELETE", "/containers/shop?v=1").status == 204
    assert served.request("DELETE", "/containers/shop").status == 404


def test_who_asks_is_told_to_the_agent(served: Served) -> None:
    id = served.create("web", Cmd=["sleep", "1000"], start=True)
    served.post("/containers/web/restart?t=1")
    served.post("/containers/web/kill?signal=HUP")
    served.post("/containers/web/kill?signal=15")
    states = [asked[2] for asked in served.control.asked if asked[:2] == ("intend", id)]
    assert states == ["running", "stopped", "running", "stopped"]


def test_name_conflicts_in_dockers_words(served: Served) -> None:
    id = served.create("web")
    got = served.request("POST", "/containers/create?name=web", {"Image": "alpine"})
    assert got.status == 409
    assert got.message.startswith(f'Conflict. The container name "/web" is already in use by container "{id}"')
    served.create("other")
    assert served.request("POST", "/containers/other/rename?name=web").status == 409
    assert served.request("POST", "/containers/other/rename?name=a%2Fb").status == 400


def test_missing_image_and_network(served: Served) -> None:
    got = served.request("POST", "/containers/create", {"Image": "nothere"})
    assert (got.status, got.message) == (404, "No such image: nothere:latest")
    served.create("x1")
    for host, message in (
        ({"NetworkMode": "nonet"}, "network nonet not found"),
        ({"NetworkMode": "container:zzz"}, "No such container: zzz"),
        ({"VolumesFrom": ["zzz:ro"]}, "No such container: zzz"),
        ({"Links": ["zzz:z"]}, "No such container: zzz"),
    ):  # of a 404 the docker command thinks that the image is missing, and pulls it
        got = served.request("POST", "/containers/create", {"Image": "alpine", "HostConfig": host})
        assert (got.status, got.message) == (400, message)
    assert names(served) == ["/x1"]


def test_an_image_of_another_platform_is_not_what_was_asked_for(served: Served) -> None:
    served.create("first")
    image = served.get("/images/alpine/json")
    assert served.request("POST", "/containers/create?platform=linux/s390x", {"Image": "alpine"}).message == (
        "image with reference alpine was found but does not match the specified platform: "
        f"wanted linux/s390x, actual: linux/{image['Architecture']}"
    )
    own = f"linux/{image['Architecture']}"
    assert served.request("POST", f"/containers/create?platform={own}", {"Image": "alpine"}).status == 201


def test_a_name_with_slashes_is_no_container(served: Served) -> None:
    """`docker inspect` goes on to images on a 404 alone."""
    got = served.request("GET", "/containers/localhost/busybox:static/json")
    assert (got.status, got.message) == (404, "No such container: localhost/busybox:static")


def test_restarting_is_told_and_refuses_removal(served: Served) -> None:
    id = served.create("again", Cmd=["false"], HostConfig={"RestartPolicy": {"Name": "always"}}, start=True)
    assert served.get(f"/containers/{id}/json")["State"]["Status"] == "restarting"
    assert "restarting container" in served.request("DELETE", f"/containers/{id}").message
    assert served.request("POST", f"/containers/{id}/stop").status == 204
    assert served.get(f"/containers/{id}/json")["State"]["Status"] == "exited"


def test_retries_that_are_used_up_are_told_and_start_anew_with_a_start(served: Served) -> None:
    policy = {"Name": "on-failure", "MaximumRetryCount": 1}
    id = served.create("once", Cmd=["false"], HostConfig={"RestartPolicy": policy}, start=True)

    def told() -> tuple[str, int]:
        tree = served.get(f"/containers/{id}/json")
        return tree["State"]["Status"], tree["RestartCount"]

    assert told() == ("restarting", 0)
    served.call(served.runtime.note_restart(id, 1))
    assert told() == ("exited", 1)
    for again in ("start", "restart"):
        served.call(served.runtime.note_restart(id, 1))
        served.post(f"/containers/{id}/{again}")
        assert told() == ("restarting", 0)


def test_an_images_stop_signal_that_is_none(served: Served) -> None:
    served.call(served.runtime.pull("alpine"))
    served.runtime.add_image("odd", stop_signal="FOO")
    made = served.post("/containers/create", {"Image": "odd"})
    assert made["Warnings"] == ["the image's stop signal is none: invalid signal: FOO; SIGTERM is used"]
    served.post(f"/containers/{made['Id']}/start")
    served.post(f"/containers/{made['Id']}/stop")
    refused = served.request("POST", "/containers/create", {"Image": "alpine", "StopSignal": "FOO"})
    assert (refused.status, "invalid signal: FOO" in refused.message) == (400, True)


def test_filters(served: Served) -> None:
    served.create("web", Labels={"tier": "front", "v": "1"}, Cmd=["sleep", "9999"], start=True)
    served.create("db", Labels={"tier": "back"}, HostConfig={"Binds": ["data:/data"]})
    served.create("job", Cmd=["false"], start=True)
    assert names(served, name=["we"]) == ["/web"]
    assert names(served, label=["tier"]) == ["/db", "/web"]
    assert names(served, label=["tier=front", "v=1"]) == ["/web"]
    assert names(served, status=["exited"]) == ["/job"]
    assert names(served, exited=["1"]) == ["/job"]
    assert names(served, volume=["data"]) == ["/db"]
    assert names(served, ancestor=["alpine"]) == ["/db", "/job", "/web"]
    assert names(served, since=["web"]) == ["/db", "/job"]
    assert names(served, before=["db"]) == ["/web"]
    assert names(served, network=["bridge"]) == ["/db", "/job", "/web"]
    assert names(served, health=["none"]) == ["/db", "/job", "/web"]
    for wrong in ('{"odd":["x"]}', '{"status":["odd"]}', '{"exited":["x"]}', "[1]", "{"):
        assert served.request("GET", f"/containers/json?filters={wrong}").status == 400
    assert [c["Names"] for c in served.get("/containers/json?limit=1")] == [["/job"]]


def test_the_filter_on_networks_goes_by_membership(served: Served) -> None:
    front = str(served.post("/networks/create", {"Name": "front"})["Id"])
    both = {"EndpointsConfig": {"bridge": {}, "front": {}}}
    served.create("plain", start=True, Cmd=["sleep", "9999"])
    served.create("own", HostConfig={"NetworkMode": "front"}, start=True, Cmd=["sleep", "9999"])
    served.create("stopped", HostConfig={"NetworkMode": "front"})
    served.create("both", NetworkingConfig=both, start=True, Cmd=["sleep", "9999"])
    served.create("hosts", HostConfig={"NetworkMode": "host"}, start=True, Cmd=["sleep", "9999"])
    served.create("joined", HostConfig={"NetworkMode": "container:plain"}, start=True, Cmd=["sleep", "9999"])
    bridge = served.get("/networks/bridge")["Id"]
    assert names(served, network=["bridge"]) == names(served, network=[bridge[:12]]) == ["/both", "/plain"]
    assert names(served, network=["front"]) == names(served, network=[front]) == ["/both", "/own", "/stopped"]
    assert names(served, network=["front", "host"]) == ["/both", "/hosts", "/own", "/stopped"]
    assert names(served, network=["nothere"]) == []


def test_health_is_the_agents_to_say(served: Served) -> None:
    id = served.create("web", Cmd=["sleep", "9999"], Healthcheck={"Test": ["CMD", "true"]}, start=True)
    assert served.get("/containers/web/json")["State"]["Health"]["Status"] == "starting"
    served.control.healths[id] = Health(state="unhealthy", failing_streak=3)
    assert served.get("/containers/web/json")["State"]["Health"]["FailingStreak"] == 3
    assert served.get("/containers/json")[0]["Status"].endswith("(unhealthy)")
    assert names(served, health=["unhealthy"]) == ["/web"]


def test_logs_are_framed_and_stamped(served: Served) -> None:
    served.create("say", Cmd=["echo", "hello"], start=True)
    body = served.request("GET", "/containers/say/logs?stdout=1&stderr=1").body
    assert body == b"\x01\0\0\0\0\0\0\x06hello\n"
    stamped = served.request("GET", "/containers/say/logs?stdout=1&timestamps=1").body
    size = struct.unpack(">L", stamped[4:8])[0]
    assert size == len(stamped) - 8 and stamped[8:].split(b" ")[0].endswith(b"Z") and stamped.endswith(b" hello\n")
    assert served.request("GET", "/containers/say/logs?stderr=1").body == b""
    assert served.request("GET", "/containers/say/logs").status == 400
    headers = served.request("GET", "/containers/say/logs?stdout=1").headers
    assert headers["Content-Type"] == "application/vnd.docker.multiplexed-stream"
    old = served.request("GET", "/v1.41/containers/say/logs?stdout=1").headers
    assert old["Content-Type"] == "application/vnd.docker.raw-stream"


def test_wait_sends_its_head_at_once(served: Served) -> None:
    id = served.create("w1")
    with served.connect() as sock:
        sock.sendall(b"POST /containers/w1/wait?condition=next-exit HTTP/1.1\r\nHost: d\r\n\r\n")
        assert b"200 OK" in sock.recv(4096)
        served.post(f"/containers/{id}/start")
        served.loop.call_soon_threadsafe(served.runtime.finish, id, 7)
        assert b'{"StatusCode": 7}' in sock.recv(4096)
    assert served.request("POST", "/containers/w1/wait?condition=odd").status == 400


def test_wait_for_removal(served: Served) -> None:
    id = served.create("gone", Cmd=["sleep", "9999"], HostConfig={"AutoRemove": True}, start=True)
    with served.connect() as sock:
        sock.sendall(b"POST /containers/gone/wait?condition=removed HTTP/1.1\r\nHost: d\r\n\r\n")
        assert b"200 OK" in sock.recv(4096)
        served.loop.call_soon_threadsafe(served.runtime.finish, id, 3)
        assert b'{"StatusCode": 3}' in sock.recv(4096)
    assert served.request("GET", "/containers/gone/json").status == 404


@pytest.mark.parametrize("upgrade", [True, False])
def test_exec_hijacks(served: Served, upgrade: bool) -> None:
    served.create("web", Cmd=["sleep", "9999"], start=True)
    made = served.post("/containers/web/exec", {"Cmd": ["echo", "hi"], "AttachStdout": True})["Id"]
    head = f"POST /exec/{made}/start HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\nContent-Length: 2\r\n"
    head += "Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n{}" if upgrade else "\r\n{}"
    answer = served.raw(head.encode())
    assert answer.startswith(b"HTTP/1.1 101 UPGRADED" if upgrade else b"HTTP/1.1 200 OK")
    assert answer.endswith(b"\r\n\r\n\x01\0\0\0\0\0\0\x03hi\n")
    shown = served.get(f"/exec/{made}/json")
    assert (shown["Running"], shown["ExitCode"], shown["ProcessConfig"]["entrypoint"]) == (False, 0, "echo")
    assert served.request("POST", f"/exec/{made}/start", {}).status == 409


def test_exec_that_cannot_run_says_so_in_its_stream(served: Served) -> None:
    served.create("web", Cmd=["sleep", "9999"], start=True)
    made = served.post("/containers/web/exec", {"Cmd": ["no-such"], "AttachStdout": True})["Id"]
    answer = served.request("POST", f"/exec/{made}/start", {})
    assert answer.status == 200 and b"exec failed" in answer.body
    assert served.get(f"/exec/{made}/json")["ExitCode"] == 127
    old = served.post("/v1.41/containers/web/exec", {"Cmd": ["no-such"]})["Id"]
    served.request("POST", f"/exec/{old}/start", {})
    assert served.get(f"/exec/{old}/json")["ExitCode"] == 126


def test_exec_refusals(served: Served) -> None:
    served.create("idle")
    assert served.request("POST", "/containers/idle/exec", {"Cmd": ["x"]}).status == 409
    assert served.request("GET", "/exec/nothere/json").message == "No such exec instance: nothere"
    served.post("/containers/idle/start")
    assert served.request("POST", "/containers/idle/exec", {}).message == "No exec command specified"
    assert served.request("POST", "/containers/idle/exec", {"Cmd": "x", "DetachKeys": "oops"}).status == 400
    for size in ([1], [-1, 2], [1, 1 << 16]):
        assert served.request("POST", "/containers/idle/exec", {"Cmd": "x", "ConsoleSize": size}).status == 400
    refused = served.request("POST", "/containers/idle/exec", {"Cmd": "x", "WorkingDir": "rel"}).message
    assert refused == "the working directory 'rel' is invalid, it needs to be an absolute path"


def test_attach_before_the_start_sees_the_first_byte(served: Served) -> None:
    id = served.create("say", Cmd=["echo", "first"])
    with served.connect() as sock:
        sock.sendall(
            b"POST /containers/say/attach?stream=1&stdout=1&stderr=1 HTTP/1.1\r\nHost: d\r\nUpgrade: tcp\r\n\r\n"
        )
        assert b"101 UPGRADED" in sock.recv(4096)
        served.post(f"/containers/{id}/start")
        assert b"".join(iter(lambda: sock.recv(4096), b"")).endswith(b"first\n")


def test_websocket_attach(served: Served) -> None:
    served.create("say", Cmd=["echo", "first"], start=True)
    head = b"GET /containers/say/attach/ws?logs=1&stdout=1 HTTP/1.1\r\nHost: d\r\nUpgrade: websocket\r\n"
    head += b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    answer = _until(served, head, b"first\n")
    assert b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in answer
    assert b"\x82\x06first\n" in answer
    assert served.request("GET", "/containers/say/attach/ws").status == 400


def test_a_websocket_is_there_until_the_goodbye_is_answered(served: Served) -> None:
    served.create("say", Cmd=["echo", "first"], start=True)
    head = b"GET /containers/say/attach/ws?logs=1&stdout=1 HTTP/1.1\r\nHost: d\r\nUpgrade: websocket\r\n"
    head += b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    with served.connect() as sock:
        sock.sendall(head)
        assert b"".join(iter(lambda: sock.recv(4096), b"")).endswith(b"\x88\x02\x03\xe8")
        time.sleep(0.2)
        sock.sendall(b"\x88\x82abcd" + bytes((0x03 ^ ord("a"), 0xE8 ^ ord("b"))))


def _until(served: Served, data: bytes, wanted: bytes) -> bytes:
    with served.connect() as sock:
        sock.sendall(data)
        seen = b""
        while wanted not in seen:
            piece = sock.recv(4096)
            assert piece, seen
            seen += piece
        return seen


def test_events_with_filters_and_memory(served: Served) -> None:
    started = time.time() - 1
    id = served.create("web", Cmd=["sleep", "9999"], Labels={"a": "b"}, start=True)
    query = f'since={started}&until={time.time()}&filters={{"type":["container"],"label":["a=b"]}}'
    lines = [json.loads(line) for line in served.request("GET", f"/events?{query}").body.splitlines()]
    assert [e["Action"] for e in lines] == ["create", "start"]
    assert lines[0]["Actor"] == {"ID": id, "Attributes": {"name": "web", "image": "alpine", "a": "b"}}
    assert "status" not in lines[0]
    old = served.request("GET", f"/v1.41/events?{query}").body.splitlines()
    assert json.loads(old[0])["status"] == "create" and json.loads(old[0])["from"] == "alpine"


def test_links(served: Served) -> None:
    served.create("db1", Env=["PASS=x"], ExposedPorts={"5432/tcp": {}}, start=True)
    id = served.create("app", HostConfig={"Links": ["db1:db"]})
    shown = served.get(f"/containers/{id}/json")
    assert shown["HostConfig"]["Links"] == ["/db1:/app/db"]
    assert shown["Config"]["Env"] == []
    environment = served.call(served.runtime.inspect(id)).environment
    assert "DB_NAME=/app/db" in environment and "DB_ENV_PASS=x" in environment
    assert any(item.startswith("DB_PORT_5432_TCP=tcp://") for item in environment)
    assert "/app/db" in next(c for c in served.get("/containers/json?all=1") if "/db1" in c["Names"])["Names"]
    assert served.request("DELETE", "/containers/app/db?link=1").status == 204
    assert served.get(f"/containers/{id}/json")["HostConfig"]["Links"] is None
    assert served.request("DELETE", "/containers/app/db?link=1").status == 404


def test_update_and_prune(served: Served) -> None:
    served.create("web", Cmd=["sleep", "9999"], HostConfig={"Memory": 64 << 20}, start=True)
    served.post("/containers/web/update", {"Memory": 128 << 20, "RestartPolicy": {"Name": "always"}})
    host = served.get("/containers/web/json")["HostConfig"]
    assert (host["Memory"], host["RestartPolicy"]["Name"]) == (128 << 20, "always")
    old = served.create("old", Labels={"keep": "no"})
    served.create("kept", Labels={"keep": "yes"})
    gone = served.post('/containers/prune?filters={"label!":["keep=yes"]}')
    assert gone == {"ContainersDeleted": [old], "SpaceReclaimed": 0}
    assert names(served) == ["/kept", "/web"]


def test_volumes_from(served: Served) -> None:
    served.create("base1", HostConfig={"Binds": ["data:/data"]}, Volumes={"/cache": {}})
    id = served.create("app", HostConfig={"VolumesFrom": ["base1:ro"]})
    mounts = served.get(f"/containers/{id}/json")["Mounts"]
    assert sorted((m["Destination"], m["RW"]) for m in mounts) == [("/cache", False), ("/data", False)]


@pytest.mark.parametrize(
    "host",
    [
        {"Privileged": True},
        {"NetworkMode": "host"},
        {"PidMode": "host"},
        {"Binds": ["/etc:/etc"]},
        {"Mounts": [{"Type": "bind", "Source": "/etc", "Target": "/e"}]},
        {"Devices": [{"PathOnHost": "/dev/null"}]},
        {"CapAdd": ["SYS_ADMIN"]},
        {"OomScoreAdj": -950},
    ],
)
def test_policy(serving: Serve, host: dict[str, Any]) -> None:
    served = serving(api=ApiSettings(policy=FORBIDDEN))
    served.call(served.runtime.pull("alpine"))
    got = served.request("POST", "/containers/create", {"Image": "alpine", "HostConfig": host})
    assert got.status == 403 and "api.policy in agent.toml forbids it" in got.message


BIND = {"type": "none", "o": "bind", "device": "/etc"}


def test_no_way_round_the_policy(serving: Serve) -> None:
    served = serving(api=ApiSettings(policy=FORBIDDEN))
    served.call(served.runtime.pull("alpine"))
    config = ContainerConfig(name="owner", image="alpine", mounts=(Mount(type="bind", source="/etc", target="/e"),))
    served.call(served.runtime.create(config))
    served.call(served.runtime.start("owner"))
    mount = {"Type": "volume", "Target": "/v", "VolumeOptions": {"DriverConfig": {"Options": BIND}}}
    asked = [
        ("/volumes/create", {"Name": "etc", "DriverOpts": BIND}),
        ("/containers/create", {"Image": "alpine", "HostConfig": {"Mounts": [mount]}}),
        ("/containers/create", {"Image": "alpine", "HostConfig": {"VolumesFrom": ["owner"]}}),
        ("/containers/owner/exec", {"Cmd": ["true"], "Privileged": True}),
    ]
    for path, body in asked:
        got = served.request("POST", path, body)
        assert got.status == 403 and "api.policy in agent.toml forbids it" in got.message, (path, got)
    assert served.get("/volumes")["Volumes"] == []


def test_a_mount_says_how_its_volume_is_made(served: Served) -> None:
    options = {"DriverConfig": {"Name": "local", "Options": {"type": "tmpfs", "device": "tmpfs"}}, "Labels": {"a": "b"}}
    mounts = [
        {"Type": "volume", "Source": "named", "Target": "/named/", "VolumeOptions": options},
        {"Type": "volume", "Target": "/unnamed", "VolumeOptions": options},
    ]
    id = served.create("app", HostConfig={"Mounts": mounts})
    made = {v["Name"]: (v["Options"], v["Labels"]["a"]) for v in served.get("/volumes")["Volumes"]}
    assert list(made.values()) == [({"type": "tmpfs", "device": "tmpfs"}, "b")] * 2
    seen = {m["Destination"]: m["Name"] for m in served.get(f"/containers/{id}/json")["Mounts"]}
    assert seen["/named"] == "named" and set(seen.values()) == set(made)
    served.request("DELETE", f"/containers/{id}?v=1")
    assert [v["Name"] for v in served.get("/volumes")["Volumes"]] == ["named"]


@pytest.mark.parametrize(
    "host",
    [
        {"VolumeDriver": "nfs-plugin", "Binds": ["data:/a"]},
        {"Mounts": [{"Type": "volume", "Target": "/v", "VolumeOptions": {"DriverConfig": {"Name": "nfs-plugin"}}}]},
    ],
)
def test_a_volume_driver_that_is_not_there(served: Served, host: dict[str, Any]) -> None:
    served.call(served.runtime.pull("alpine"))
    got = served.request("POST", "/containers/create", {"Image": "alpine", "HostConfig": host})
    assert got.status == 400 and 'plugin "nfs-plugin" not found' in got.message


def test_a_volume_driver_of_no_volume_is_only_shown(served: Served) -> None:
    id = served.create("app", HostConfig={"VolumeDriver": "nfs-plugin", "Binds": ["/srv:/a"]})
    assert served.get(f"/containers/{id}/json")["HostConfig"]["VolumeDriver"] == "nfs-plugin"
