"""Engines under measurement: our agent, dockerd and podman's API service, each on roots of its own.

Each is a child of the run, started when a subject first asks for it, and ended with it.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

from benchmarks import enclosure
from benchmarks.client import IMAGE, Client
from benchmarks.measure import outside, processes
from examples.make_image import find_busybox, layer

REPOSITORY = Path(__file__).resolve().parents[1]
DOCKER = "/usr/bin/docker"  # Debian's; another one may come earlier in PATH


class Engine(ABC):
    """One engine with a socket; `own` are words by which its processes are known."""

    name: ClassVar[str]
    own: ClassVar[tuple[str, ...]]
    prefix: ClassVar[str] = ""
    patience: ClassVar[float] = 30.0  # seconds until it answers

    def __init__(self, home: Path) -> None:
        self.home = Path(tempfile.mkdtemp(prefix=f"{self.name}-", dir=home))
        self.home.chmod(0o711)
        self.socket = self.home / "e.sock"
        self.log = self.home / "log"
        self.client = self.connect()
        self.process = self._spawn()

    def connect(self) -> Client:
        """A further connection."""
        return Client(self.socket, self.prefix)

    @abstractmethod
    def command(self) -> list[str]:
        """What starts it in the foreground."""

    def environment(self) -> dict[str, str]:
        """Its environment."""
        return {**os.environ, "PYTHONUNBUFFERED": "1", "TMPDIR": str(self.home)}

    def _spawn(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                self.command(), stdout=log, stderr=log, env=self.environment(), cwd=self._directory()
            )
        deadline = time.monotonic() + self.patience
        while not self.client.answers():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"cannot start {self.name}:\n{self.log.read_text(errors='replace')[-1500:]}")
            time.sleep(0.02)
        self.fill()
        return process

    def _directory(self) -> Path:
        return self.home

    @property
    def run_dir(self) -> str:
        """What is of this boot only, on a tmpfs as on any host."""
        return f"/run/{self.home.name}"

    def fill(self) -> None:
        """Bring in the busybox image."""
        self.client.import_layer(io.BytesIO(layer(find_busybox())))

    def close(self) -> None:
        """End it, and with it what it runs."""
        for item in self.client.ask("GET", "/containers/json?all=1") or []:
            self.client.remove(item["Id"])
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()

    def target(self, most: float) -> float | None:
        """The target of a figure: peers have none."""
        return None

    def docker(self, *words: str) -> list[str]:
        """A command line that asks this engine."""
        return [DOCKER, "-H", f"unix://{self.socket}", *words]

    def pids(self) -> list[int]:
        """Its processes outside any container."""
        return [pid for pid, line in processes().items() if any(word in line for word in self.own) and outside(pid)]


class Trueup(Engine):
    """Our agent on an own data root."""

    name = "trueup"
    own = ("-m agent", "trueup", "multiprocessing", "runtime.", "monitor", "spawner")
    runtime: ClassVar[str] = "native"

    def __init__(self, home: Path, specs: Path | None = None) -> None:
        self._given = specs
        super().__init__(home)

    def command(self) -> list[str]:
        """`trueup agent`; spec files lie in `specs`, images come as an archive."""
        self.specs = self._given or self.home / "specs"
        self.specs.mkdir(exist_ok=True)
        images = self.home / "images"
        subprocess.run([sys.executable, REPOSITORY / "examples/make_image.py", images], check=True)
        return [
            sys.executable, "-m", "agent", "agent", "--root", str(self.home / "data"),
            "--run-dir", self.run_dir, "--specs", str(self.specs), "--images", str(images),
            "-H", f"unix://{self.socket}", "--metrics", "127.0.0.1:9323", "--runtime", self.runtime,
        ]  # fmt: skip

    def environment(self) -> dict[str, str]:
        """Own cgroups."""
        return {**super().environment(), "TRUEUP_CGROUP_PARENT": f"{enclosure.cgroup_parent()}/{self.name}"}

    def close(self) -> None:
        """End the agent first: it would start anew what its specs want."""
        self.process.kill()
        self.process.wait()
        command = self.command()
        command[3:4] = ["down"]
        down = [*command[:-2], "--all", "--volumes"]
        subprocess.run(down, env=self.environment(), cwd=REPOSITORY, stdout=subprocess.DEVNULL, timeout=120, check=True)

    def _directory(self) -> Path:
        return REPOSITORY

    def target(self, most: float) -> float | None:
        """Ours is held to it."""
        return most

    def fill(self) -> None:
        """Wait until the archive is imported."""
        deadline = time.monotonic() + 15
        while not self.client.ask("GET", "/images/json"):
            if time.monotonic() > deadline:
                raise RuntimeError(f"the agent does not import its images:\n{self.log.read_text()[-1500:]}")
            time.sleep(0.02)


class TrueupMemory(Trueup):
    """Our agent on the in-memory runtime."""

    name = "trueup-memory"
    runtime = "memory"
    patience = 200.0

    def close(self) -> None:
        """Its containers are nowhere but in it."""
        self.process.kill()
        self.process.wait()


class Dockerd(Engine):
    """Debian's dockerd with its own containerd."""

    name = "dockerd"
    own = ("dockerd", "containerd")

    def command(self) -> list[str]:
        """Own roots; the default bridge and iptables, as everybody has them."""
        return [
            "/usr/sbin/dockerd", "--data-root", str(self.home / "data"), "--exec-root", f"{self.run_dir}/exec",
            "--pidfile", str(self.home / "pid"), "--host", f"unix://{self.socket}",
            "--cgroup-parent", f"{enclosure.cgroup_parent()}/docker", "--config-file", str(self._config()),
        ]  # fmt: skip

    def _config(self) -> Path:
        path = self.home / "daemon.json"
        path.write_text(json.dumps({"exec-opts": ["native.cgroupdriver=cgroupfs"]}))
        return path


class Podman(Engine):
    """Debian's podman: the API service, and the same store by its command line."""

    name = "podman"
    own = ("podman", "conmon", "netavark", "aardvark")

    def command(self) -> list[str]:
        """The service; runc, because Debian 12's crun refuses hybrid cgroups."""
        return [*self.cli(), "system", "service", "--time=0", f"unix://{self.socket}"]

    def cli(self) -> list[str]:
        """podman on this store."""
        h = self.home
        return [
            "podman", "--root", f"{h}/root", "--runroot", f"{self.run_dir}/run", "--tmpdir", f"{h}/tmp",
            "--volumepath", f"{h}/volumes", "--network-config-dir", f"{h}/networks",
            "--cgroup-manager", "cgroupfs", "--runtime", "runc",
        ]  # fmt: skip

    def docker(self, *words: str) -> list[str]:
        """podman itself."""
        return [*self.cli(), *words]

    def fill(self) -> None:
        """As others; but podman's import overlooks the tag."""
        super().fill()
        name, _, tag = IMAGE.rpartition(":")
        self.client.ask("POST", f"/images/{name}:latest/tag?repo={name}&tag={tag}")

    def environment(self) -> dict[str, str]:
        """Its configuration files, ours instead of the machine's."""
        for directory in ("networks", "tmp"):
            (self.home / directory).mkdir(exist_ok=True)
        containers, registries = self.home / "containers.conf", self.home / "registries.conf"
        containers.write_text('[network]\nnetwork_backend = "netavark"\n')
        registries.write_text('[[registry]]\nlocation = "127.0.0.1"\ninsecure = true\n')
        found = {"CONTAINERS_CONF": str(containers), "CONTAINERS_REGISTRIES_CONF": str(registries)}
        return {**super().environment(), **found}
