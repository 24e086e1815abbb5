"""What a create body means to the runtime, what inspect echoes, and what is refused in Docker's words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agent.engine_api.container_body import CreateBody
from agent.engine_api.container_request import check_name, container_config
from agent.engine_api.inspect import inspect_json
from agent.engine_api.mounts_body import read_bind, tmpfs
from agent.engine_api.versions import Version
from runtime.engine.codec import to_json
from runtime.engine.model import Container, ContainerConfig, Healthcheck, Image, ImageConfig, Mount, State
from runtime.errors import InvalidInput, TrueupError
from tests import golden_text

GOLDEN = Path(__file__).parents[2] / "golden" / "api"
IMAGE = Image(
    id="sha256:" + "1" * 64,
    manifest_digest="sha256:" + "2" * 64,
    tags=("docker.io/library/app:1",),
    config=ImageConfig(
        entrypoint=("/entry",),
        command=("serve",),
        environment=("PATH=/bin", "MODE=prod"),
        exposed=("80/tcp",),
        labels={"from": "image"},
        healthcheck=Healthcheck(test=("CMD", "/check"), interval=7.0),
        working_dir="/srv",
    ),
)
RICH: dict[str, Any] = {
    "Image": "app:1",
    "Hostname": "web",
    "User": "1000:1000",
    "Env": ["MODE=test", "EMPTY="],
    "Cmd": ["serve", "--port", "80"],
    "Labels": {"tier": "front"},
    "ExposedPorts": {"443": {}},
    "OpenStdin": True,
    "StdinOnce": True,
    "StopSignal": "SIGQUIT",
    "StopTimeout": 3,
    "Volumes": {"/cache": {}},
    "Healthcheck": {"Interval": 2_000_000_000, "Retries": 5},
    "HostConfig": {
        "Binds": ["data:/data:ro", "/etc/ssl:/etc/ssl:ro,rslave"],
        "Mounts": [{"Type": "tmpfs", "Target": "/scratch", "TmpfsOptions": {"SizeBytes": 1048576, "Mode": 448}}],
        "Tmpfs": {"/run": "rw,size=64m,mode=1777"},
        "PortBindings": {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}], "443": [{"HostPort": "9000-9005"}]},
        "NetworkMode": "front",
        "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 3},
        "Memory": 67108864,
        "NanoCpus": 500000000,
        "PidsLimit": 100,
        "Ulimits": [{"Name": "nofile", "Soft": 1024, "Hard": 2048}],
        "CapAdd": ["NET_ADMIN"],
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges", "seccomp=unconfined"],
        "ReadonlyRootfs": True,
        "Init": True,
        "ExtraHosts": ["db:10.0.0.5"],
        "Dns": ["10.0.0.1"],
        "Sysctls": {"net.core.somaxconn": "1024"},
        "LogConfig": {"Type": "json-file", "Config": {"max-size": "10m"}},
        "Devices": [{"PathOnHost": "/dev/null", "PathInContainer": "/dev/nil", "CgroupPermissions": "r"}],
        "ConsoleSize": [24, 80],
    },
    "NetworkingConfig": {
        "EndpointsConfig": {"front": {"Aliases": ["www"], "IPAMConfig": {"IPv4Address": "10.1.0.9"}}, "back": {}}
    },
}

JOINED = {"NetworkMode": "container:other"}


def config(body: dict[str, Any], **more: Any) -> ContainerConfig:
    options: dict[str, Any] = {"name": "web", "image": IMAGE, "platform": "", "inherited": (), "strict": False}
    return container_config(CreateBody.model_validate({"Image": "app:1", **body}), **{**options, **more})


def golden(name: str, tree: Any) -> None:
    """Compare with tests/golden/api/NAME."""
    golden_text.agrees(GOLDEN / name, json.dumps(tree, indent=1, sort_keys=True) + "\n")


def test_a_rich_body_as_the_runtime_gets_it() -> None:
    tree = to_json(config(RICH))
    tree.pop("client_data")
    golden("create_rich.json", tree)


@pytest.mark.parametrize("minor", [24, 41, 55])
def test_a_rich_body_as_inspect_shows_it(minor: int) -> None:
    made = config(RICH)
    container = Container(
        id="c" * 64,
        config=made,
        image_id=IMAGE.id,
        state=State.CREATED,
        created_at=1_700_000_000.0,
        args=("/entry", "serve", "--port", "80"),
        user="1000:1000",
        stop_signal="SIGQUIT",
        healthcheck=made.healthcheck,
        mounts=made.mounts,
        apparmor="trueup-default",
        masked_paths=("/proc/kcore", "/sys/firmware"),
        readonly_paths=("/proc/sys",),
    )
    shown = inspect_json(container, IMAGE, None, Version(1, minor), mountpoints={"data": "/vol/data/_data"}, execs=[])
    golden(f"inspect_rich_1.{minor}.json", shown)
    for key, sent in RICH["HostConfig"].items():
        assert shown["HostConfig"][key] == sent, key


def test_entrypoint_rules() -> None:
    assert (config({}).command, config({}).entrypoint) == (None, None)
    assert config({"Entrypoint": [""]}).entrypoint == ()
    assert config({"Entrypoint": [""]}).command is None
    assert config({"Entrypoint": []}).command == ("serve",)
    assert config({"Entrypoint": "/bin/x", "Cmd": "y"}).entrypoint == ("/bin/x",)
    assert config({"Cmd": []}).command is None


def test_health_checks_take_what_is_missing_from_the_image() -> None:
    assert config({}).healthcheck is None
    check = config({"Healthcheck": {"Retries": 9}}).healthcheck
    assert check == Healthcheck(test=("CMD", "/check"), interval=7.0, retries=9)
    none = config({"Healthcheck": {"Test": ["NONE"]}}).healthcheck
    assert none is not None and none.test == ("NONE",)
    with pytest.raises(InvalidInput, match="Interval in Healthcheck cannot be less than 1ms"):
        config({"Healthcheck": {"Test": ["CMD", "x"], "Interval": 5}})


def test_docker_defaults_unless_strict() -> None:
    assert config({}).security.userns == "host" and config({}).security.no_new_privileges is False
    assert config({}, strict=True).security.userns == "auto" and config({}, strict=True).limits.pids is None


def test_published_ports_of_the_image() -> None:
    ports = config({"HostConfig": {"PublishAllPorts": True, "PortBindings": {"53/udp": None}}}).networking.ports
    assert [(p.container_port, p.protocol, p.host_port) for p in ports] == [(53, "udp", 0), (80, "tcp", 0)]


@pytest.mark.parametrize(
    ("mode", "expected"),
    [("", "bridge"), ("default", "bridge"), ("bridge", "bridge"), ("host", "host"), ("container:x", "container:x")],
)
def test_network_modes(mode: str, expected: str) -> None:
    networking = config({"HostConfig": {"NetworkMode": mode}}).networking
    assert networking.mode == expected
    assert [e.network for e in networking.endpoints] == (["bridge"] if expected == "bridge" else [])


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"HostConfig": {"Binds": ["data"]}}, "invalid volume specification: 'data'"),
        ({"HostConfig": {"Binds": ["a/b:/x"]}}, "includes invalid characters for a local volume name"),
        ({"HostConfig": {"Binds": ["/a:/x:zz"]}}, "invalid mode: zz"),
        ({"HostConfig": {"Binds": ["/a:/"]}}, "destination can't be '/'"),
        ({"HostConfig": {"Binds": ["/a://"]}}, "destination can't be '/'"),
        ({"HostConfig": {"Tmpfs": {"/": ""}}}, "destination can't be '/'"),
        ({"Volumes": {"/x/..": {}}}, "destination can't be '/'"),
        ({"HostConfig": {"Binds": ["/a:x"]}}, "mount path must be absolute"),
        ({"HostConfig": {"Binds": ["/a:/x", "/b:/x"]}}, "Duplicate mount point: /x"),
        ({"HostConfig": {"Mounts": [{"Type": "bind", "Source": "/no/such", "Target": "/x"}]}}, "does not exist"),
        ({"HostConfig": {"Mounts": [{"Type": "odd", "Target": "/x"}]}}, "mount type unknown"),
        ({"HostConfig": {"Mounts": [{"Type": "tmpfs", "Target": ""}]}}, "field Target must not be empty"),
        ({"HostConfig": {"Tmpfs": {"/x": "mode=9"}}}, "invalid mode: '9' is not an octal number"),
        (
            {"HostConfig": {"Mounts": [{"Type": "tmpfs", "Target": "/x", "TmpfsOptions": {"SizeBytes": -1}}]}},
            "size -1 is negative",
        ),
        ({"HostConfig": {"Memory": 1000}}, "Minimum memory limit allowed is 6MB"),
        ({"HostConfig": {"MemorySwap": 100 << 20}}, "always set the Memory limit"),
        ({"HostConfig": {"Memory": 100 << 20, "MemorySwap": 50 << 20}}, "memoryswap limit should be larger"),
        ({"HostConfig": {"NanoCpus": 10**15}}, "range of CPUs is from 0.01 to"),
        ({"HostConfig": {"NanoCpus": 10**6}}, "range of CPUs is from 0.01 to"),
        ({"HostConfig": {"NanoCpus": 1, "CpuQuota": 1}}, "Conflicting options: Nano CPUs"),
        ({"HostConfig": {"MemorySwappiness": 101}}, "valid memory swappiness range is 0-100"),
        ({"HostConfig": {"RestartPolicy": {"Name": "never"}}}, "invalid restart policy"),
        ({"HostConfig": {"RestartPolicy": {"Name": "always", "MaximumRetryCount": 1}}}, "maximum retry count"),
        ({"HostConfig": {"AutoRemove": True, "RestartPolicy": {"Name": "always"}}}, "can't create 'AutoRemove'"),
        ({"HostConfig": {"PidMode": "weird"}}, "invalid pid mode: weird"),
        ({"HostConfig": {"IpcMode": "container:"}}, "invalid IPC mode"),
        ({"HostConfig": {"UsernsMode": "weird"}}, "invalid userns mode"),
        ({"HostConfig": {"SecurityOpt": ["odd"]}}, "invalid --security-opt"),
        ({"HostConfig": {"SecurityOpt": ["seccomp={"]}}, "Decoding seccomp profile failed"),
        ({"HostConfig": {"SecurityOpt": ["seccomp=" + "[" * 100_000]}}, "Decoding seccomp profile failed"),
        ({"HostConfig": {"LogConfig": {"Type": "splunk"}}}, "no log driver named 'splunk' is registered"),
        (
            {"HostConfig": {"LogConfig": {"Type": "json-file", "Config": {"max-zise": "1m"}}}},
            "unknown log opt 'max-zise' for json-file log driver",
        ),
        (
            {"HostConfig": {"LogConfig": {"Type": "syslog", "Config": {"syslog-address": "udp://logs:514"}}}},
            "write an address, not a name",
        ),
        ({"HostConfig": {"PortBindings": {"http": []}}}, "invalid port specification"),
        ({"Hostname": "x", "HostConfig": {"UTSMode": "host"}}, "conflicting options: hostname and the UTS mode"),
        ({"Hostname": "x", "HostConfig": JOINED}, "conflicting options: hostname and the network mode"),
        (
            {"HostConfig": {**JOINED, "PortBindings": {"80/tcp": [{"HostPort": "80"}]}}},
            "conflicting options: port publishing and the container type network mode",
        ),
        ({"HostConfig": {**JOINED, "PublishAllPorts": True}}, "conflicting options: port publishing"),
        ({"ExposedPorts": {"80/tcp": {}}, "HostConfig": JOINED}, "conflicting options: port exposing"),
        ({"HostConfig": {**JOINED, "Links": ["a:b"]}}, "container type networking can't be used with links"),
        ({"HostConfig": {"NetworkMode": "host", "Links": ["a:b"]}}, "host type networking can't be used with links"),
        ({"HostConfig": {**JOINED, "Dns": ["1.1.1.1"]}}, "conflicting options: dns and the network mode"),
        ({"HostConfig": {**JOINED, "ExtraHosts": ["a:1.1.1.1"]}}, "custom host-to-IP mapping and the network mode"),
        ({"MacAddress": "02:00:00:00:00:01", "HostConfig": JOINED}, "mac-address and the network mode"),
        ({"MacAddress": "zz"}, "invalid MAC address: address zz"),
        ({"HostConfig": {"NetworkMode": "container:"}}, "invalid container format"),
        ({"HostConfig": {"OomScoreAdj": 2000}}, "range for oom score adj is"),
        ({"HostConfig": {"DeviceRequests": [{"Capabilities": [["gpu"]]}]}}, "with capabilities: [[gpu]]"),
    ],
)
def test_refusals_in_dockers_words(body: dict[str, Any], words: str) -> None:
    with pytest.raises(TrueupError) as refused:
        config(body)
    assert words in str(refused.value)


def test_what_clients_send_by_default_conflicts_with_nothing() -> None:
    empty = {"Dns": [], "ExtraHosts": [], "Links": None, "PortBindings": {}, "PublishAllPorts": False}
    made = config({"Hostname": "", "MacAddress": "", "ExposedPorts": {}, "HostConfig": {**JOINED, **empty}})
    assert made.networking.mode == "container:other"
    named = config({"Hostname": "x", "HostConfig": {"NetworkMode": "host", "Dns": ["1.1.1.1"]}})
    assert (named.hostname, named.networking.dns) == ("x", ("1.1.1.1",))


@pytest.mark.parametrize("name", ["", "-x", "a", "a/b", "a b", "../x", "é" * 3])
def test_bad_names(name: str) -> None:
    with pytest.raises(InvalidInput, match="Invalid container name"):
        check_name(name)


def test_binds_and_tmpfs() -> None:
    assert read_bind("data:/d:ro,nocopy") == Mount(
        type="volume", source="data", target="/d", read_only=True, nocopy=True
    )
    assert read_bind("/a/../b:/x/:Z") == Mount(type="bind", source="/b", target="/x")
    assert tmpfs("/t", "noexec,size=1k,mode=0700") == Mount(
        type="tmpfs", target="/t", size=1024, mode=0o700, options=("noexec",)
    )


def test_keys_match_whatever_their_case_and_null_is_absent() -> None:
    assert CreateBody.model_validate({"image": "x", "hostconfig": {"binds": None}}).HostConfig is not None
    assert config({"HostConfig": None, "Labels": None, "Env": None}).labels == {}
