"""kill -9 of agent, spawner and monitors, in any order and number, with fifty containers: none of them notices."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import struct
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests import leaks
from tests.e2e.harness import IMAGE, AgentUnderTest

pytestmark = [pytest.mark.privileged, pytest.mark.timeout(240)]

ROUNDS = 10
ENDING = 2  # containers that end in each round, in the middle of it
COUNT = f"i=0; while :; do i=$((i+1)); echo $i; [ $((i % {{}})) -ne 0 ] || sleep {0.05 * leaks.SLOW}; done"
SCRIPTS = {
    "quick": COUNT.format(1000),  # lines between two pauses
    "steady": COUNT.format(10),
    "silent": "sleep 100000 & wait",
    "terminal": "while read word; do echo said $word; done",
    "typed": "while read word; do echo said $word; done",
}
MANY = {"quick": 2, "steady": 20, "silent": 26, "terminal": 1, "typed": 1}
KEPT = {"quick0", "terminal0", "typed0"}  # to the end
CODES = {f"{kind}{n}": 10 + i for i, (kind, n) in enumerate((k, n) for k, many in MANY.items() for n in range(many))}


def create(agent: AgentUnderTest, name: str) -> str:
    """A container of nobody's spec, which nobody starts anew when it ends; running on return."""
    kind = name.rstrip("0123456789")
    body = {
        "Image": IMAGE,
        "Cmd": ["sh", "-c", f"trap 'exit {CODES[name]}' TERM; {SCRIPTS[kind]}"],
        "Tty": kind == "terminal",
        "OpenStdin": kind in ("terminal", "typed"),
        "HostConfig": {"NetworkMode": "none"},
    }
    id = str(agent.api(f"/containers/create?name={name}", "POST", body)["Id"])
    assert agent.api(f"/containers/{id}/start", "POST") is not None
    return id


def states(agent: AgentUnderTest, ids: dict[str, str]) -> dict[str, dict[str, Any]]:
    """The state of each."""
    return {name: agent.api(f"/containers/{id}/json")["State"] for name, id in ids.items()}


def pids(agent: AgentUnderTest, ids: dict[str, str]) -> dict[str, int]:
    """Of those that run."""
    return {name: state["Pid"] for name, state in states(agent, ids).items() if state["Running"]}


def told_to_end(agent: AgentUnderTest, ids: dict[str, str]) -> dict[str, int]:
    """Those that still run. Told each time: a shell that is on its way into a read forgets a signal until it reads."""
    running = pids(agent, ids)
    for pid in running.values():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    return running


class Ours:
    """Processes of one agent that may be killed."""

    def __init__(self, agent: AgentUnderTest) -> None:
        self._agent = agent
        self._run = agent.home / "run"

    def spawner(self) -> list[int]:
        """Whoever listens on the spawner's socket."""
        with socket.socket(socket.AF_UNIX) as sock:
            if sock.connect_ex(str(self._run / "spawner.sock")):
                return []
            return [int(struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0])]

    def monitors(self) -> list[int]:
        """By the run records."""
        found = []
        for path in self._run.glob("containers/*/run.json"):
            try:
                found.append(int(json.loads(path.read_text())["monitor_pid"]))
            except (ValueError, FileNotFoundError):
                continue
        return sorted(found)

    def kill(self, *choices: Callable[[], list[int]]) -> None:
        """Everybody chosen, in one go."""
        for pid in [pid for choose in choices for pid in choose()]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def agent(self) -> None:
        """The agent dies, and its supervisor starts it again."""
        self._agent.stop(signal.SIGKILL)
        self._agent.start()


def wave(ours: Ours, chance: random.Random) -> Callable[[], None]:
    """One way to be killed."""

    def some() -> list[int]:
        monitors = ours.monitors()
        return chance.sample(monitors, min(len(monitors), chance.choice((1, 3, 10))))

    return chance.choice(
        [
            lambda: ours.kill(some),
            lambda: ours.kill(ours.monitors),
            lambda: ours.kill(ours.spawner),
            lambda: ours.kill(ours.spawner, some),
            lambda: ours.kill(ours.spawner, ours.monitors),
            lambda: (ours.kill(some), ours.agent()),
            lambda: (ours.kill(ours.spawner, some), ours.agent()),
            lambda: (ours.agent(), ours.kill(ours.monitors))[0],
        ]
    )


def numbers(agent: AgentUnderTest, id: str) -> list[int]:
    """What a counting container's log holds; a frame's header of 8 bytes precedes each line."""
    return [int(frame[8:]) for frame in agent.api(f"/containers/{id}/logs?stdout=1").split("\n")[:-1]]


def test_nobody_notices(scratch: Path) -> None:
    chance = random.Random(int(os.environ.get("TU_KILLS_SEED", "3")))
    with AgentUnderTest(scratch) as agent:
        agent.until("the image is there", lambda: agent.api(f"/images/{IMAGE}/json") is not None)
        with ThreadPoolExecutor(4) as clients:
            ids = dict(zip(CODES, clients.map(lambda name: create(agent, name), CODES), strict=True))
        running, ours = pids(agent, ids), Ours(agent)
        assert set(running) == set(CODES)
        for _ in range(ROUNDS):
            wave(ours, chance)()
            for name in chance.sample(sorted(set(running) - KEPT), ENDING):
                os.kill(running.pop(name), signal.SIGTERM)
            time.sleep(chance.uniform(0.0, 0.7))
            assert {n: alive([pid]) for n, pid in running.items()} == {n: [pid] for n, pid in running.items()}
        agent.until("the ended are seen", lambda: pids(agent, ids) == running, 30)
        agent.until("the living are looked after", lambda: len(alive(ours.monitors())) >= len(running), 30)
        for name in ("terminal0", "typed0"):
            assert "said hello" in talk(agent, ids[name])
        agent.until("all have ended", lambda: not told_to_end(agent, ids), 30)
        ended = states(agent, ids)
        told = {name: state["ExitCode"] for name, state in ended.items() if "lost" not in state["Error"]}
        assert told == {name: CODES[name] for name in told}
        assert set(told) >= set(running), "nobody was killed when these ended"
        for name in CODES:
            if name.startswith(("quick", "steady")):
                found = numbers(agent, ids[name])
                assert found == list(range(found[0], found[0] + len(found))), f"{name} lost or repeated something"
        for id in ids.values():
            assert agent.api(f"/containers/{id}", "DELETE") is not None
        assert not list((agent.home / "run/containers").iterdir())
        assert [p.name for p in (agent.home / "data/containers").glob("[!.]*")] == []
        agent.until("no monitor is left", lambda: not alive(ours.monitors()))


def alive(pids: list[int]) -> list[int]:
    return [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def talk(agent: AgentUnderTest, id: str) -> str:
    """Type a word and see what comes back."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(20 * leaks.SLOW)
        sock.connect(str(agent.socket))
        sock.sendall(
            f"POST /containers/{id}/attach?stream=1&stdin=1&stdout=1 HTTP/1.1\r\nHost: x\r\n"
            "Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n".encode()
        )
        text = b""
        while b"\r\n\r\n" not in text:
            text += sock.recv(4096)
        sock.sendall(b"hello\n")
        while b"said hello" not in text:
            piece = sock.recv(4096)
            if not piece:
                break
            text += piece
    return text.decode(errors="replace")
