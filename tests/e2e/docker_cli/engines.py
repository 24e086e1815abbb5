"""The two engines that one session of `docker` is typed at: our agent, and dockerd in namespaces of its own.

Each has a registry beside it on the same port, speaks TLS on another, and is asked by Debian's client.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from examples.make_image import find_busybox, layer
from tests import leaks
from tests.agent.engine_api.test_listen import certificates
from tests.e2e.harness import AgentUnderTest, free_port

DOCKER = "/usr/bin/docker"  # Debian's, whatever comes earlier in PATH


@dataclass(frozen=True)
class Ports:
    """TCP ports on 127.0.0.1, the same beside both engines so that outputs agree."""

    registry: int
    tls: int
    web: int


@dataclass(frozen=True)
class Typist:
    """Somebody at a shell: `enter` puts a command where this engine's ports can be reached."""

    home: Path
    socket: Path
    certificates: Path
    ports: Ports
    enter: tuple[str, ...] = ()

    def sit_down(self) -> None:
        """Lay out what is worked with: a root file system as a tar."""
        (self.home / "typed").mkdir()
        (self.home / "typed/rootfs.tar").write_bytes(layer(find_busybox()))

    def type(self, line: str) -> tuple[str, int]:
        """What one line of shell prints, both streams, and its exit code."""
        done = subprocess.run(
            [*self.enter, "sh", "-c", line],
            cwd=self.home / "typed", env=self._environment(), stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60 * leaks.SLOW, check=False,
        )  # fmt: skip
        return done.stdout.decode(errors="replace"), done.returncode

    def _environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "PATH": f"{os.path.dirname(DOCKER)}:{os.environ['PATH']}",
            "DOCKER_HOST": f"unix://{self.socket}",
            "DOCKER_CONFIG": str(self.home / "docker"),
            "REGISTRY": f"127.0.0.1:{self.ports.registry}",
            "TLS": f"127.0.0.1:{self.ports.tls}",
            "WEB": str(self.ports.web),
            "CERTS": str(self.certificates),
            "HERE": str(self.home / "typed"),
            "TERMINAL": f"{shutil.which('python3')} {Path(__file__).with_name('terminal.py')}",
        }


class OurAgent(AgentUnderTest):
    """Our agent, which also speaks TLS."""

    tls = 0

    @property
    def options(self) -> list[str]:
        return [*super().options, "-H", f"tcp://127.0.0.1:{self.tls}", "--config", str(self.home / "agent.toml")]


@contextmanager
def ours(home: Path, ports: Ports) -> Iterator[Typist]:
    """Our agent on `home`."""
    tls = certificates(home)
    lines = [f"{name} = {json.dumps(getattr(tls, name))}" for name in ("tls_ca", "tls_cert", "tls_key")]
    (home / "agent.toml").write_text("\n".join(["[api]", *lines, ""]))
    agent = OurAgent(home)
    agent.tls = ports.tls
    (home / "images/busybox.tar").unlink()  # images come through the API alone
    with agent, _child(_registry(home, ports)):
        yield Typist(home, agent.socket, home, ports)


@contextmanager
def theirs(home: Path, ports: Ports) -> Iterator[Typist]:
    """Debian's dockerd: its mounts, links, rules and processes end with the namespaces it is in."""
    certificates(home)
    group = f"/trueup-{leaks.MARK}-{home.name}"
    (home / "daemon.json").write_text(json.dumps({"exec-opts": ["native.cgroupdriver=cgroupfs"]}))
    dockerd = [
        "/usr/sbin/dockerd", "--data-root", home / "data", "--exec-root", home / "exec", "--pidfile", home / "pid",
        "--config-file", home / "daemon.json", "--cgroup-parent", group, "--host", f"unix://{home / 'd.sock'}",
        "--host", f"tcp://127.0.0.1:{ports.tls}", "--tlsverify", "--tlscacert", home / "ca.pem",
        "--tlscert", home / "server.pem", "--tlskey", home / "server.key",
    ]  # fmt: skip
    inside = 'ip link set lo up && mount -t tmpfs tmpfs /run && { "$0" serve "$1" & shift; exec "$@"; }'
    enclosed = ("unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", inside)
    try:
        with _child([*enclosed, *_registry(home, ports)[::2], *map(str, dockerd)], home / "log") as process:
            _until(lambda: _answers(home / "d.sock"), process, home / "log")
            child = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0]
            yield Typist(home, home / "d.sock", home, ports, ("nsenter", "--net", "--target", child))
    finally:
        leaks.remove_groups(group)


def free_ports() -> Ports:
    """Three ports nobody uses."""
    return Ports(free_port(), free_port(), free_port())


def _registry(home: Path, ports: Ports) -> list[str]:
    config = {
        "version": 0.1,
        "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(home / "registry")}},
        "http": {"addr": f"127.0.0.1:{ports.registry}"},
    }
    (home / "registry.yml").write_text(json.dumps(config))  # JSON is YAML
    return ["docker-registry", "serve", str(home / "registry.yml")]


@contextmanager
def _child(command: list[str], log: Path | None = None) -> Iterator[subprocess.Popen[bytes]]:
    with Path(log or os.devnull).open("ab") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGKILL)  # takes the namespaces along
        process.wait()


def _answers(socket: Path) -> bool:
    asked = subprocess.run([DOCKER, "-H", f"unix://{socket}", "version"], capture_output=True, check=False)
    return asked.returncode == 0


def _until(holds: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60 * leaks.SLOW
    while not holds():
        alive = process.poll() is None and time.monotonic() < deadline
        assert alive, f"dockerd does not answer:\n{log.read_text(errors='replace')[-2000:]}"
        time.sleep(0.2)
