"""/_ping, /version, /info, /auth, /system/df: what clients ask before anything else."""

from __future__ import annotations

import os
import platform
import sys
import time
from typing import Any

from agent.engine_api import host
from agent.engine_api.container_body import Body
from agent.engine_api.engine import Engine
from agent.engine_api.message import Answer, Headers, Request, Response, ok
from agent.engine_api.router import Route
from agent.engine_api.text import rfc3339
from agent.engine_api.usage import KINDS, disk_usage
from agent.engine_api.versions import MINIMUM, NEWEST
from runtime.engine.model import RegistryAuth, Snapshot, State
from specs import log_options

_PING: Headers = (
    ("Cache-Control", "no-cache, no-store, must-revalidate"),
    ("Pragma", "no-cache"),
    ("Swarm", "inactive"),
)
_INDEX = "https://index.docker.io/v1/"


class AuthBody(Body):
    """POST /auth."""

    username: str | None = None
    password: str | None = None
    email: str | None = None
    serveraddress: str | None = None
    identitytoken: str | None = None


def _registry(address: str) -> str:
    """A registry's name in references, of the address that clients keep credentials under."""
    name = address.partition("://")[2] or address
    host = name.partition("/")[0]
    return "docker.io" if host in ("index.docker.io", "registry-1.docker.io") else host


class System:
    """The daemon itself."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def routes(self) -> list[Route]:
        """The operations of this resource."""
        return [
            Route("GET", "/_ping", self.ping),
            Route("GET", "/version", self.version),
            Route("GET", "/info", self.info),
            Route("POST", "/auth", self.auth),
            Route("GET", "/system/df", self.df),
        ]

    async def ping(self, request: Request) -> Answer:
        """OK, with the headers clients negotiate by."""
        return Response(body=b"OK", content_type="text/plain; charset=utf-8", headers=_PING)

    async def version(self, request: Request) -> Answer:
        """GET /version."""
        release = self._engine.control.status().version
        kernel, arch = platform.release(), host.go_architecture()
        experimental = self._engine.control.settings.api.experimental
        details = {
            "ApiVersion": str(NEWEST),
            "Arch": arch,
            "BuildTime": "",
            "Experimental": str(experimental).lower(),
            "GitCommit": "",
            "GoVersion": f"python{platform.python_version()}",
            "KernelVersion": kernel,
            "MinAPIVersion": str(MINIMUM),
            "Os": "linux",
        }
        return ok(
            {
                "Platform": {"Name": "trueup"},
                "Components": [{"Name": "Engine", "Version": release, "Details": details}],
                "Version": release,
                **{key: value for key, value in details.items() if key != "Experimental"},
                "Experimental": experimental,
            }
        )

    async def info(self, request: Request) -> Answer:
        """GET /info."""
        world = await self._engine.world()
        tree = {**_counts(world), **_kernel(), **_fixed(), **self._daemon()}
        if request.version.has("bridge-nf"):
            tree |= {"BridgeNfIptables": False, "BridgeNfIp6tables": False}
        if not request.version.has("info-warnings"):
            del tree["Warnings"]
        return ok(tree)

    async def auth(self, request: Request) -> Answer:
        """POST /auth: what the registry says about these credentials."""
        body = await request.model(AuthBody)
        if not body.username and not body.identitytoken:
            return ok({"message": "unauthorized: a username is needed"}, status=401)
        login = RegistryAuth(
            username=body.username or "", password=body.password or "", identity_token=body.identitytoken or ""
        )
        await self._engine.runtime.login(_registry(body.serveraddress or _INDEX), login)
        return ok({"Status": "Login Succeeded", "IdentityToken": ""})

    async def df(self, request: Request) -> Answer:
        """GET /system/df."""
        wanted = set(request.lists.get("type", ())) or KINDS
        world = await self._engine.world()
        return ok(await disk_usage(self._engine, world, wanted, request.version))

    def _daemon(self) -> dict[str, Any]:
        control = self._engine.control
        return {
            "ID": host.machine_id(),
            "Name": platform.node(),
            "ServerVersion": control.status().version,
            "DockerRootDir": control.settings.root,
            "Labels": [f"{k}={v}" for k, v in control.sampled().labels.items()],
            "NEventsListener": len(self._engine.hub.listeners),
            "NFd": len(os.listdir("/proc/self/fd")),
            "NGoroutines": 1,
            "Debug": control.settings.log_level == "debug",
            "SystemTime": rfc3339(time.time()),
            "ExperimentalBuild": control.settings.api.experimental,
        }


def _counts(world: Snapshot) -> dict[str, Any]:
    states = [container.state for container in world.containers]
    running, paused = states.count(State.RUNNING), states.count(State.PAUSED)
    return {
        "Containers": len(states),
        "ContainersRunning": running,
        "ContainersPaused": paused,
        "ContainersStopped": len(states) - running - paused,
        "Images": len(world.images),
    }


def _kernel() -> dict[str, Any]:
    release = host.os_release()
    security = ["name=seccomp,profile=builtin", "name=cgroupns"]
    return {
        "KernelVersion": platform.release(),
        "OperatingSystem": release.get("PRETTY_NAME", "Linux"),
        "OSVersion": release.get("VERSION_ID", ""),
        "OSType": "linux",
        "Architecture": platform.machine(),
        "NCPU": len(os.sched_getaffinity(0)),
        "MemTotal": host.memory_total(),
        "CgroupVersion": host.cgroup_version(),
        "IPv4Forwarding": host.ip_forwarding(),
        "SecurityOptions": (["name=apparmor"] if host.has_apparmor() else []) + security,
    }


def _fixed() -> dict[str, Any]:
    return {
        "Driver": "overlay2",
        "DriverStatus": [["Backing Filesystem", "extfs"], ["Native Overlay Diff", "true"]],
        "Plugins": {
            "Volume": ["local"],
            "Network": ["bridge", "host", "ipvlan", "macvlan", "null"],
            "Authorization": None,
            "Log": sorted(log_options.DRIVERS),
        },
        "MemoryLimit": True,
        "SwapLimit": True,
        "CpuCfsPeriod": True,
        "CpuCfsQuota": True,
        "CPUShares": True,
        "CPUSet": True,
        "PidsLimit": True,
        "OomKillDisable": host.cgroup_version() == "1",
        "LoggingDriver": "json-file",
        "CgroupDriver": "cgroupfs",
        "IndexServerAddress": _INDEX,
        "RegistryConfig": {
            "InsecureRegistryCIDRs": ["127.0.0.0/8", "::1/128"],
            "IndexConfigs": {"docker.io": {"Name": "docker.io", "Mirrors": [], "Secure": True, "Official": True}},
            "Mirrors": [],
        },
        "GenericResources": None,
        "HttpProxy": os.environ.get("HTTP_PROXY", ""),
        "HttpsProxy": os.environ.get("HTTPS_PROXY", ""),
        "NoProxy": os.environ.get("NO_PROXY", ""),
        "Runtimes": {"runc": {"path": sys.argv[0]}},
        "DefaultRuntime": "runc",  # what clients ask for by name when they mean the default
        "Swarm": {
            "NodeID": "",
            "NodeAddr": "",
            "LocalNodeState": "inactive",
            "ControlAvailable": False,
            "Error": "",
            "RemoteManagers": None,
        },
        "LiveRestoreEnabled": True,
        "Isolation": "",
        "InitBinary": "trueup-init",
        "ContainerdCommit": {"ID": ""},
        "RuncCommit": {"ID": ""},
        "InitCommit": {"ID": ""},
        "ProductLicense": "",
        "FirewallBackend": {"Driver": "nftables"},
        "CDISpecDirs": [],
        "Warnings": [],
    }
