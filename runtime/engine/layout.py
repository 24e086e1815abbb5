"""Where one data root keeps what, and what its kernel objects are called.

Two agents on one machine differ in `root`; everything the kernel shows by name (cgroups, bridges,
the nft table) carries a tag made from it, so that neither ever takes the other's for its own.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass

from runtime.errors import InvalidInput
from runtime.kernel.at import spread

DEFAULT_ROOT = "/var/lib/trueup"
_SHORT = 24
_LONGEST_RUN_DIR = 107 - len("/containers//attach.sock") - _SHORT


@dataclass(frozen=True, slots=True)
class Layout:
    """Paths of one data root and its run directory; `cgroup_parent` "" is the default one."""

    root: str
    run_dir: str
    cgroup_parent_setting: str = ""

    @property
    def tag(self) -> str:
        """Empty for the default root, else four hex digits of the root's path."""
        real = os.path.realpath(self.root)
        return "" if real == DEFAULT_ROOT else hashlib.sha256(real.encode()).hexdigest()[:4]

    @property
    def name(self) -> str:
        """ "trueup", or "trueup-1a2b": of the cgroup parent, the nft table, the lock."""
        return f"trueup-{self.tag}" if self.tag else "trueup"

    @property
    def cgroup_parent(self) -> str:
        """Absolute cgroup path below which every container has its own."""
        return self.cgroup_parent_setting or f"/{self.name}"

    @property
    def lock(self) -> str:
        return f"{self.root}/lock"

    @property
    def containers(self) -> str:
        return f"{self.root}/containers"

    @property
    def layers(self) -> str:
        return f"{self.root}/layers"

    @property
    def images(self) -> str:
        return f"{self.root}/images"

    @property
    def volumes(self) -> str:
        return f"{self.root}/volumes"

    @property
    def networks(self) -> str:
        return f"{self.root}/networks"

    @property
    def runs(self) -> str:
        return f"{self.run_dir}/runs"

    @property
    def run_containers(self) -> str:
        return f"{self.run_dir}/containers"

    @property
    def network_state(self) -> str:
        return f"{self.run_dir}/network"

    @property
    def run_dirs(self) -> tuple[str, str, str]:
        """What is in the run directory for as long as an agent works."""
        return self.runs, self.run_containers, self.network_state

    def container(self, id: str) -> str:
        """The data directory of one container: record, upper, log, exit record, its hosts, hostname and resolv.conf."""
        return f"{self.containers}/{id}"

    def run_container(self, id: str) -> str:
        """The run directory of one container: sockets, its configs and secrets, its run record.

        Named by 96 bits of the id, because the path of a socket has 107 bytes in all (man 7 unix).
        """
        return f"{self.run_containers}/{id[:_SHORT]}"

    def make(self) -> None:
        """Create what is missing. Raises InvalidInput when the run directory's path is too long for sockets."""
        if len(self.run_dir.encode()) > _LONGEST_RUN_DIR:
            raise InvalidInput(
                f"cannot use run directory {self.run_dir}: its path is longer than {_LONGEST_RUN_DIR} bytes, "
                "which is what sockets in it can have",
                hint="choose a shorter --run-dir",
            )
        os.makedirs(self.root, mode=0o711, exist_ok=True)
        self.make_run_dir()
        for path in (self.containers, self.layers, self.images, self.volumes, self.networks):
            os.makedirs(path, mode=0o711, exist_ok=True)
        spread(self.containers)

    def make_run_dir(self) -> None:
        """Create what is missing of the run directory."""
        os.makedirs(self.run_dir, mode=0o755, exist_ok=True)
        for path in self.run_dirs:
            os.makedirs(path, mode=0o711, exist_ok=True)
