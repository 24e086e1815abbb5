"""What a subject is given: a scratch directory, how long it may take, and the engines of this run."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from benchmarks.engines import Dockerd, Engine, Podman, Trueup, TrueupMemory

KINDS: dict[str, type[Engine]] = {
    "trueup": Trueup, "trueup-memory": TrueupMemory, "docker": Dockerd, "podman": Podman,
}  # fmt: skip
PROGRAMS = {"docker": "/usr/sbin/dockerd", "podman": "podman", "runc": "runc", "crun": "crun"}


class Stage:
    """Starts engines when first asked for, and ends them all."""

    def __init__(self, home: Path, peers: tuple[str, ...], quick: bool) -> None:
        self.home, self.quick = home, quick
        self.peers = tuple(peer for peer in peers if shutil.which(PROGRAMS[peer]))
        self._engines: dict[str, Engine] = {}

    def times(self, full: int) -> int:
        """How often to repeat: `full`, or a fifth in a quick run."""
        return max(3, full // 5) if self.quick else full

    def trueup(self) -> Trueup:
        """Our agent."""
        engine = self.engine("trueup")
        assert isinstance(engine, Trueup)
        return engine

    def engine(self, name: str) -> Engine:
        """One engine of KINDS, running."""
        if name not in self._engines:
            self._engines[name] = KINDS[name](self.home)
        return self._engines[name]

    def engines(self) -> list[Engine]:
        """Our agent and the peers that have an API."""
        return [self.engine(name) for name in ("trueup", *(p for p in self.peers if p in KINDS))]

    def fresh(self, name: str) -> Path:
        """A new empty directory."""
        path = self.home / name
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir()
        return path

    def restart(self, name: str) -> Engine:
        """The engine anew, with nothing in it."""
        self.end(name)
        return self.engine(name)

    def end(self, name: str) -> None:
        """End one engine, if it runs."""
        if engine := self._engines.pop(name, None):
            engine.close()
            shutil.rmtree(engine.home, ignore_errors=True)

    def close(self) -> None:
        """End all engines."""
        for name in list(self._engines):
            self.end(name)


def run_quietly(*command: str) -> None:
    """Run a program that must succeed."""
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} exited {done.returncode}: {done.stderr[-500:]}")


def oci(stage: Stage, program: str) -> list[str]:
    """runc or crun with a state directory of this run; see `enclosure.without_unified` for crun."""
    return [program, f"--root=/run/{program}", *(["--cgroup-manager=cgroupfs"] if program == "crun" else [])]
