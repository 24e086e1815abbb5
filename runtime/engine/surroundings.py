"""What a container's start needs of others: layers, volumes, other containers' namespaces, its /etc files."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable

from runtime.container import config as c
from runtime.container.files import read, write_new
from runtime.engine import bundle as b
from runtime.engine import own_files
from runtime.engine.entry import Entry
from runtime.engine.layout import Layout
from runtime.engine.machine import Machine
from runtime.engine.record import Record, Run
from runtime.engine.wiring import Wiring
from runtime.errors import Conflict, NotFound, Unavailable
from runtime.image.service import Images
from runtime.layer.store import LayerStore
from runtime.network import modes
from runtime.volume.backing import Backing
from runtime.volume.store import VolumeStore

FILES = ("hosts", "hostname", "resolv.conf")


class Surround:
    """Looks things up for one engine; `find` resolves a container reference."""

    def __init__(
        self,
        layout: Layout,
        layers: LayerStore,
        images: Images,
        volumes: VolumeStore,
        wiring: Wiring,
        find: Callable[[str], Entry],
    ) -> None:
        self._layout = layout
        self._layers = layers
        self._images = images
        self._volumes = volumes
        self._wiring = wiring
        self._find = find
        self.machine = Machine()

    def __call__(self, entry: Entry, run: Run) -> b.Surroundings:
        """Everything for one start. Raises NotFound, Conflict, InvalidInput, Unsupported."""
        record = entry.record
        return b.Surroundings(
            lower=self._layers.lowerdirs(record.layers),
            volumes={m.source: self._volume(m.source) for m in record.mounts if m.type == "volume"},
            images={m.source: self._image(m.source) for m in record.mounts if m.type == "image"},
            join=self._joins(record),
            files=self._files(record, run),
            machine=self.machine,
        )

    def base_of_joined(self, record: Record) -> int | None:
        """The id range of the container whose namespaces it joins; None when it joins nobody's."""
        targets = self._targets(record)
        return self._find(next(iter(targets.values()))).record.userns_base if targets else None

    def _targets(self, record: Record) -> dict[str, str]:
        """Namespace -> the container whose is joined."""
        spaces, mode = record.config.namespaces, modes.parse_mode(record.config.networking.mode)
        found = {"net": mode.container} if mode.kind == "join" else {}
        for kind, asked in (("pid", spaces.pid), ("ipc", spaces.ipc), ("uts", spaces.uts)):
            if asked.startswith("container:"):
                found[kind] = asked.removeprefix("container:")
        return found

    def _joins(self, record: Record) -> dict[str, str]:
        joins: dict[str, str] = {}
        for kind, ref in self._targets(record).items():
            target = self._find(ref)
            name = target.record.config.name
            refusal = f"cannot start container {record.config.name}: it joins the {kind} namespace of {name}, which is"
            if target.run is None or not target.running:
                raise Conflict(f"{refusal} not running", hint=f"start {name} first")
            if kind == "ipc" and target.record.config.namespaces.ipc in ("private", "none"):
                raise Conflict(f"{refusal} private", hint=f"set `ipc: shareable` on {name}")
            joins[kind] = f"{target.run.pid}:{target.run.start_time}"
            if target.record.userns_base:
                joins.setdefault("user", joins[kind])
        return joins

    def _volume(self, name: str) -> c.Mount:
        record = self._volumes.get(name)
        if (backing := record.backing) is None:
            return c.Mount(type="bind", target="", source=self._volumes.path(name), copy_up=True)
        return _backed(name, backing)

    def _image(self, ref: str) -> tuple[str, ...]:
        return self._layers.lowerdirs(self._images.get(ref).diff_ids)

    # ------------------------------------------------------------ /etc files

    def _files(self, record: Record, run: Run) -> tuple[c.BoundFile, ...]:
        mode, own = modes.parse_mode(record.config.networking.mode), self._layout.run_container(record.id)
        os.makedirs(own, mode=0o711, exist_ok=True)
        own_files.write(record.config.files, own)
        if mode.kind == "join":
            directory = self._layout.container(self._find(mode.container).record.id)
        else:
            directory = self._layout.container(record.id)
            self._write_files(directory, record, run)
        taken = {m.target for m in record.mounts} | {f.target for f in record.config.files}
        return tuple(
            c.BoundFile(source=f"{directory}/{name}", target=f"/etc/{name}")
            for name in FILES
            if f"/etc/{name}" not in taken and os.path.exists(f"{directory}/{name}")
        )

    def _write_files(self, directory: str, record: Record, run: Run) -> None:
        """Anew, below the data root: a container may write them, and must not fill the host's /run with them."""
        try:
            for name, text in self.etc_files(record, run).items():
                _write_anew(f"{directory}/{name}", text.encode())
        except OSError as e:
            raise Unavailable(f"cannot write the /etc files of {record.config.name}: {e.strerror}") from e

    def rewrite_files(self, record: Record, run: Run) -> None:
        """Bring hosts and resolv.conf of a running container up to date, in place: they are mounted there."""
        files = self.etc_files(record, run)
        for name in ("hosts", "resolv.conf"):
            text = files[name].encode()
            fd = os.open(f"{self._layout.container(record.id)}/{name}", os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                os.pwrite(fd, text, 0)
                os.ftruncate(fd, len(text))
            finally:
                os.close(fd)

    def etc_files(self, record: Record, run: Run) -> dict[str, str]:
        """The text of hosts, hostname and resolv.conf."""
        networking = record.config.networking
        host = modes.parse_mode(networking.mode).kind == "host"
        gateways = self._wiring.gateways(run.endpoints)
        name = b.hostname(record)
        hosts = modes.hosts_text(
            name,
            domainname=record.config.domainname,
            addresses=[a for e in run.endpoints for a in (e.ipv4, e.ipv6) if a] or (["127.0.1.1"] if host else []),
            extra_hosts=networking.extra_hosts,
            host_gateway="127.0.0.1" if host else next((e.gateway for e in run.endpoints if e.gateway), ""),
            names=self._wiring.static_names(record, run.endpoints),
            ipv6=host or any(e.ipv6 for e in run.endpoints),
        )
        resolv = modes.resolv_text(
            _read("/etc/resolv.conf"),
            gateways=gateways,
            servers=networking.dns,
            search=networking.dns_search,
            options=networking.dns_opt,
        )
        return {"hosts": hosts, "hostname": f"{name}\n", "resolv.conf": resolv}


def _write_anew(path: str, data: bytes) -> None:
    """Not by rename over the old one: ext4 would write that out at once. Who still has the old one mounted keeps it."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    write_new(path, data)


def _backed(name: str, backing: Backing) -> c.Mount:
    """A volume with driver options as a mount in the container's own namespace."""
    flags = tuple(f for f in backing.flags if f != "ro")
    read_only = "ro" in backing.flags
    if backing.kind == "bind":
        if not os.path.isdir(backing.source):
            raise NotFound(f"cannot mount volume {name}: there is no directory {backing.source}")
        return c.Mount(
            type="bind",
            target="",
            source=backing.source,
            options=flags,
            read_only=read_only,
            recursive=backing.recursive,
            copy_up=True,
        )
    options = tuple(f"{key}={value}" if value else key for key, value in backing.data)
    return c.Mount(type="tmpfs", target="", options=(*flags, *options), read_only=read_only)


def _read(path: str) -> str:
    try:
        return read(path).decode(errors="replace")
    except OSError:
        return ""
