"""A real agent under test: its own roots, its own cgroup parent, the real command line and socket."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from tests import leaks

REPOSITORY = Path(__file__).resolve().parents[2]
IMAGE = "localhost/busybox:static"


class AgentUnderTest:
    """One agent on `home`; `specs` is watched. Use as a context manager: it takes everything away."""

    def __init__(
        self, home: Path, *, specs: Path | None = None, runtime: str = "native", more: tuple[str, ...] = ()
    ) -> None:
        """`more` are further options of every command."""
        self.home = home
        self.runtime, self.more = runtime, more
        self.specs = specs or home / "specs"
        self.specs.mkdir(exist_ok=True)
        self.socket = home / "a.sock"
        self.log = home / "agent.log"
        self.metrics = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self.within: list[str] = []  # what every command of ours is run by, such as nsenter
        subprocess.run([sys.executable, REPOSITORY / "examples/make_image.py", home / "images"], check=True)

    @property
    def options(self) -> list[str]:
        """What tells this agent from others on the machine."""
        return [
            "--root", str(self.home / "data"), "--run-dir", str(self.home / "run"), "--specs", str(self.specs),
            "--images", str(self.home / "images"), "-H", f"unix://{self.socket}",
            "--metrics", f"127.0.0.1:{self.metrics}", *self.more,
        ]  # fmt: skip

    def __enter__(self) -> AgentUnderTest:
        try:
            self.start()
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        if exc[0] is not None:
            print(self.log.read_text()[-6000:])
        self.stop(signal.SIGKILL)
        if self.runtime == "native":
            self.trueup("down", "--all", "--volumes")

    def start(self) -> None:
        """Start the agent and wait until its socket answers."""
        with self.log.open("ab") as log:
            command = [*self.within, sys.executable, "-m", "agent", "agent", *self.options, "--runtime", self.runtime]
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, start_new_session=True, cwd=REPOSITORY, env=environment(self)
            )
        process = self.process
        self.until("the agent answers", lambda: process.poll() is not None or self.api("/_ping") is not None, 60)
        assert process.poll() is None, f"the agent ended at its start:\n{self.tail()}"

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End the agent with a signal; its containers run on."""
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(timeout=30 * leaks.SLOW)
            self.process = None

    def trueup(self, *words: str, ok: tuple[int, ...] | None = (0,)) -> str:
        """Run a `trueup` command on this agent; its whole output. `ok` None takes any exit code."""
        done = subprocess.run(
            [*self.within, sys.executable, "-m", "agent", words[0], *self.options, *words[1:]],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=REPOSITORY, env=environment(self),
            timeout=60 * leaks.SLOW, check=False,
        )  # fmt: skip
        if ok is not None:
            assert done.returncode in ok, f"trueup {' '.join(words)} exited {done.returncode}:\n{done.stdout}"
        return done.stdout

    def api(self, path: str, method: str = "GET", body: object = None) -> Any:
        """One request on the socket: its JSON (or text); None when nobody answered or it failed."""
        connection = HTTPConnection("localhost")
        try:
            connection.sock = socket.socket(socket.AF_UNIX)
            connection.sock.settimeout(20 * leaks.SLOW)
            connection.sock.connect(str(self.socket))
            text = None if body is None else json.dumps(body)
            connection.request(method, path, text, {"Content-Type": "application/json"})
            response = connection.getresponse()
            data = response.read()
        except (OSError, HTTPException):
            return None
        finally:
            connection.close()
        if response.status >= 300:
            return None
        try:
            return json.loads(data) if data.strip() else {}
        except ValueError:
            return data.decode()

    def containers(self) -> dict[str, dict[str, Any]]:
        """Inspect trees by service name; of several containers of a service, the one that runs."""
        found: dict[str, dict[str, Any]] = {}
        for listed in self.api("/containers/json?all=1") or []:
            name = listed["Labels"].get("com.docker.compose.service")
            tree = self.api(f"/containers/{listed['Id']}/json")
            if name and tree and (name not in found or tree["State"]["Pid"]):
                found[name] = tree
        return found

    def pids(self) -> dict[str, int]:
        """Host pid of each running service."""
        return {n: c["State"]["Pid"] for n, c in self.containers().items() if c["State"]["Pid"]}

    def settled(self) -> None:
        """Wait until there is nothing left to do."""
        self.until("nothing is left to do", lambda: not json.loads(self.trueup("plan", "--json", ok=(0, 2)))["steps"])

    def until(self, what: str, holds: Callable[[], bool], seconds: float = 60) -> None:
        """Wait for the world to be so."""
        deadline = time.monotonic() + seconds * leaks.SLOW
        while not _so(holds):
            assert time.monotonic() < deadline, f"after {seconds:.0f} s still not so: {what}\n{self.tail()}"
            time.sleep(0.05)

    def tail(self) -> str:
        """The end of the agent's log, for the reader of a failed test."""
        return self.log.read_text()[-4000:]

    def running(self, *services: str) -> None:
        """Wait until exactly these services run."""
        self.until(f"{services} run", lambda: set(self.pids()) == set(services))


def _so(holds: Callable[[], bool]) -> bool:
    try:
        return holds()
    except (KeyError, FileNotFoundError, ProcessLookupError):  # a service not there yet, a process no longer there
        return False


def environment(agent: AgentUnderTest) -> dict[str, str]:
    """The environment of every process of this agent."""
    return {
        **os.environ,
        "TRUEUP_CGROUP_PARENT": f"/trueup-{leaks.MARK}-{agent.home.name}",
        "PYTHONUNBUFFERED": "1",
    }


def free_port() -> int:
    """A TCP port of 127.0.0.1 nobody uses now."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def get(url: str, seconds: float = 5) -> str:
    """The body at `url`, or "" when nobody answers within `seconds`."""
    try:
        with urlopen(url, timeout=seconds) as response:
            return str(response.read().decode())
    except OSError:
        return ""


def copy_example(name: str, home: Path) -> Path:
    """A private copy of one example, so that a test may edit it."""
    target = home / name
    shutil.copytree(REPOSITORY / "examples" / name, target)
    return target
