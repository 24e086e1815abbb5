"""A scripted tour: what the agent does, shown on a data root of its own, checked as it goes.

`python examples/tour.py [--runtime native|memory]` exits 0 when every step did what its line says and
nothing was left behind. On the in-memory runtime the same steps run without root and without containers.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any
from urllib.request import urlopen

HERE = Path(__file__).resolve().parent
SPEC = """\
services:
  web:
    image: localhost/busybox:static
    init: true
    command: ["sh", "-c", "echo $$GREETING > /tmp/index.html; exec httpd -f -p 80 -h /tmp"]
    environment: {GREETING: hello}
    ports: ["127.0.0.1:18080:80"]
  other:
    image: localhost/busybox:static
    init: true
    command: ["sleep", "infinity"]
"""


class Tour:
    """One agent on a throw-away directory, and the words around it."""

    def __init__(self, runtime: str) -> None:
        self.runtime = runtime
        self.home = Path(tempfile.mkdtemp(prefix="trueup-tour-", dir="/var/tmp"))
        self.specs = self.home / "specs"
        self.specs.mkdir()
        self.options = [
            "--root", f"{self.home}/data", "--run-dir", f"{self.home}/run", "--specs", str(self.specs),
            "--images", f"{self.home}/images", "-H", f"unix://{self.home}/tour.sock",
            "--metrics", "127.0.0.1:19323",
        ]  # fmt: skip
        self.agent: subprocess.Popen[bytes] | None = None
        self.number = 0

    def step(self, text: str) -> None:
        """Announce the next thing."""
        self.number += 1
        print(f"\n\033[1m{self.number}. {text}\033[0m" if sys.stdout.isatty() else f"\n{self.number}. {text}")
        sys.stdout.flush()

    def trueup(self, *words: str, show: bool = True, ok: tuple[int, ...] = (0,)) -> str:
        """Run one `trueup` command, show it as a person would type it, return its output."""
        done = subprocess.run(
            [sys.executable, "-m", "agent", words[0], *self.options, *words[1:]],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        )  # fmt: skip
        if show:
            print(f"   $ trueup {' '.join(words).replace(str(self.specs), 'specs')}")
            print("".join(f"     {line}\n" for line in done.stdout.splitlines()), end="")
            sys.stdout.flush()
        if done.returncode not in ok:
            raise SystemExit(f"the tour failed: trueup {words[0]} exited {done.returncode}\n{done.stdout}")
        return done.stdout

    def start_agent(self) -> None:
        """Start the agent; its lines go to this terminal. Returns when its socket answers."""
        command = [sys.executable, "-m", "agent", "agent", *self.options, "--runtime", self.runtime]
        self.agent = subprocess.Popen(command, start_new_session=True)
        self.until("the agent answers", lambda: self.services() is not None)

    def stop_agent(self, how: signal.Signals) -> None:
        """End the agent with a signal and wait for it."""
        assert self.agent is not None
        self.agent.send_signal(how)
        self.agent.wait(timeout=30)
        self.agent = None

    def services(self) -> dict[str, dict[str, Any]] | None:
        """Containers by service name, as the Docker API lists them; None while nobody answers."""
        tree = self.api("/containers/json?all=1")
        if tree is None:
            return None
        return {c["Labels"].get("com.docker.compose.service", ""): c for c in tree}

    def api(self, path: str, method: str = "GET") -> Any:
        """One request on the agent's socket; None when it failed."""
        connection = HTTPConnection("localhost", timeout=10)
        try:
            connection.sock = socket.socket(socket.AF_UNIX)
            connection.sock.connect(f"{self.home}/tour.sock")
            connection.request(method, path)
            response = connection.getresponse()
            body = response.read()
        except (OSError, HTTPException):
            return None
        finally:
            connection.close()
        return (json.loads(body) if body.strip() else {}) if response.status < 300 else None

    def pids(self) -> dict[str, int]:
        """Host pid of every running service."""
        found = {}
        for name, container in (self.services() or {}).items():
            tree = self.api(f"/containers/{container['Id']}/json")
            if tree and tree["State"]["Running"]:
                found[name] = tree["State"]["Pid"]
        return found

    def answer(self) -> str:
        """What the published port says; the in-memory runtime has none."""
        if self.runtime == "memory":
            return ""
        try:
            with urlopen("http://127.0.0.1:18080", timeout=2) as response:
                return str(response.read().decode().strip())
        except OSError as e:
            return f"({e})"

    def until(self, what: str, holds: Callable[[], bool], seconds: float = 60) -> None:
        """Wait for the world to be so; the tour fails when it does not become so."""
        deadline = time.monotonic() + seconds
        while not holds():
            if time.monotonic() > deadline:
                raise SystemExit(f"the tour failed: after {seconds:.0f} s still not so: {what}")
            time.sleep(0.05)
        print(f"   ✓ {what}")
        sys.stdout.flush()

    def shows(self, text: str) -> bool:
        """Whether the published port answers `text`."""
        return self.runtime == "memory" or self.answer() == text

    # ------------------------------------------------------------ the steps

    def play(self) -> None:
        """Every step in order."""
        subprocess.run([sys.executable, HERE / "make_image.py", f"{self.home}/images"], check=True)
        self.begin()
        self.edit()
        self.heal()
        self.broken()
        self.crash()
        self.remove()

    def begin(self) -> None:
        self.step("Start: a file in the directory becomes running containers")
        (self.specs / "shop.yaml").write_text(SPEC)
        self.start_agent()
        self.until("both services run", lambda: set(self.pids()) == {"web", "other"})
        self.until("the published port answers hello", lambda: self.shows("hello"))
        self.trueup("status")

    def edit(self) -> None:
        self.step("Edit: the plan names what changes and why; the rest is left alone")
        before = self.pids()
        edited = SPEC.replace("GREETING: hello", "GREETING: changed")
        (self.home / "edited").mkdir()
        (self.home / "edited/shop.yaml").write_text(edited)
        self.trueup("plan", f"{self.home}/edited/shop.yaml", ok=(2,))
        (self.specs / "shop.yaml").write_text(edited)
        self.until("the published port answers changed", lambda: self.shows("changed"))
        self.until(
            "web is another process, other is the same",
            lambda: len(now := self.pids()) == 2 and now["web"] != before["web"] and now["other"] == before["other"],
        )

    def heal(self) -> None:
        self.step("Kill a container from outside: it is healed")
        before = self.pids()["other"]
        if self.runtime == "native":
            os.kill(before, signal.SIGKILL)
        else:
            self.trueup("exec", "other", "kill", "-9", "1", show=False, ok=(0, 137))
        self.until("other is back", lambda: self.pids().get("other", before) != before)

    def broken(self) -> None:
        self.step("Break the file: the last good state is kept, the error says where")
        before = self.pids()
        good = (self.specs / "shop.yaml").read_text()
        (self.specs / "shop.yaml").write_text(good.replace("environment:", "enviroment:"))
        self.trueup("validate", f"{self.specs}/shop.yaml", ok=(1,))
        self.until("status shows the error", lambda: "enviroment" in self.trueup("status", show=False))
        assert self.pids() == before, "a broken file must not touch what runs"
        print("   ✓ both services run on")
        (self.specs / "shop.yaml").write_text(good)

    def crash(self) -> None:
        self.step("Kill the agent with SIGKILL: the containers run on, and are adopted on restart")
        before = self.pids()
        self.stop_agent(signal.SIGKILL)
        if self.runtime == "native":
            assert all(Path(f"/proc/{pid}").exists() for pid in before.values()), "a container died with the agent"
            self.until("the published port answers without an agent", lambda: self.shows("changed"))
        self.start_agent()
        self.until("the same processes are adopted", lambda: self.pids() == before)

    def remove(self) -> None:
        self.step("Remove the file: the containers and the network go")
        (self.specs / "shop.yaml").unlink()
        self.until("nothing runs", lambda: self.services() == {})
        self.trueup("status")
        self.stop_agent(signal.SIGTERM)

    def clean(self) -> None:
        """Take everything away, also after a failed step."""
        if self.agent is not None:
            self.agent.kill()
            self.agent.wait()
        if self.runtime == "native" and (self.home / "data").exists():
            self.trueup("down", "--all", "--volumes", show=False, ok=(0, 1))
        shutil.rmtree(self.home, ignore_errors=True)


def main() -> None:
    """Play the tour and clean up after it."""
    runtime = sys.argv[sys.argv.index("--runtime") + 1] if "--runtime" in sys.argv else "native"
    tour = Tour(runtime)
    started = time.monotonic()
    try:
        tour.play()
    finally:
        tour.clean()
    print(f"\nThe tour took {time.monotonic() - started:.1f} s and left nothing behind.")


if __name__ == "__main__":
    main()
