"""What the agent may ask of any runtime: native Linux, an OCI runtime binary, or one in memory.

Rules of the protocol, held by one contract suite (`tests/runtime/contract.py`):
- Every call is safe to repeat; removing what is gone raises `NotFound` and changes nothing.
- A call that returns has happened and survives our death; a call that raised left nothing behind.
- Errors are those of `runtime.errors`, and no others.
- `REF` arguments take an id, an unambiguous prefix of it, or a name.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Sequence
from typing import Literal, Protocol

from runtime.engine.model import (
    Container,
    ContainerConfig,
    ContainerUpdate,
    EndpointConfig,
    Event,
    ExecConfig,
    Exit,
    FileChange,
    Image,
    ImageConfig,
    LogEntry,
    LogQuery,
    Network,
    NetworkConfig,
    Progress,
    Pruned,
    RegistryAuth,
    RemoteImage,
    Snapshot,
    Stats,
    Storage,
    Volume,
    VolumeConfig,
)
from runtime.engine.options import ImagePolicy

OnProgress = Callable[[Progress], None]


class Stdio(Protocol):
    """The live ends of a process's standard streams: an attach or an exec."""

    async def read(self) -> tuple[Literal["stdout", "stderr"], bytes] | None:
        """The next piece of output; None once, at its end. With a tty all is "stdout"."""
        ...

    async def write(self, data: bytes) -> None:
        """Hand bytes to the process's stdin; returns when they are taken."""
        ...

    async def close_stdin(self) -> None:
        """Half-close: the process sees end of file, its output goes on."""
        ...

    async def resize(self, rows: int, columns: int) -> None:
        """Set the terminal's size; nothing without a tty."""
        ...

    async def close(self) -> None:
        """Let go of the streams; the process runs on."""
        ...


class ExecProcess(Protocol):
    """A running exec: its streams, its pid, its end."""

    @property
    def pid(self) -> int: ...

    @property
    def stdio(self) -> Stdio: ...

    async def wait(self) -> int:
        """Exit code; 128+n after signal n."""
        ...

    async def kill(self) -> None:
        """End it by SIGKILL, without those it has started; nothing when it has ended."""
        ...


class Runtime(Protocol):
    """Containers, images, networks and volumes of one data root."""

    # life of the runtime itself
    async def open(self) -> None:
        """Take the lock, recover: finish or undo what a crash left half done. The only start path."""
        ...

    async def resync(self) -> list[str]:
        """Recovery once more: heal what others changed behind our back; texts of what had drifted."""
        ...

    def alerts(self) -> tuple[str, ...]:
        """What waits for a person, such as a record that could not be read."""
        ...

    async def close(self) -> None:
        """Let go of everything; containers run on."""
        ...

    # seeing
    async def snapshot(self) -> Snapshot: ...
    def subscribe(self) -> AsyncIterator[Event]:
        """Events from now on; a slow reader loses the oldest, never blocks anybody."""
        ...

    async def inspect(self, ref: str) -> Container: ...
    async def stats(self, ref: str) -> Stats: ...
    async def top(self, ref: str) -> list[tuple[int, list[str]]]:
        """(host pid, argv) of every process in the container."""
        ...

    # containers
    async def create(self, config: ContainerConfig) -> Container: ...
    async def start(self, ref: str) -> Container:
        """Returns once the command was exec'd. Already running: nothing happens.

        Raises CommandFailed, Conflict (port or address taken), NotFound (image, network) …
        """
        ...

    async def stop(self, ref: str, *, timeout: float | None = None, signal: str | None = None) -> Exit:
        """Stop signal, grace, then SIGKILL to the whole cgroup. Timeout None: the container's own."""
        ...

    async def kill(self, ref: str, signal: str = "SIGKILL") -> None: ...
    async def pause(self, ref: str) -> None: ...
    async def unpause(self, ref: str) -> None: ...
    async def wait(self, ref: str) -> Exit:
        """Returns at once when it is not running."""
        ...

    async def remove(self, ref: str, *, force: bool = False, volumes: bool = False) -> None:
        """Conflict when running and not `force`; `volumes` takes its anonymous volumes along."""
        ...

    async def rename(self, ref: str, name: str) -> None: ...
    async def update(self, ref: str, change: ContainerUpdate) -> Container: ...
    async def exec(self, ref: str, config: ExecConfig) -> ExecProcess: ...
    async def attach(self, ref: str) -> Stdio: ...
    def logs(self, ref: str, query: LogQuery) -> AsyncIterator[Sequence[LogEntry]]:
        """What it said, in order, as many entries at a time as are there at once."""
        ...

    async def changes(self, ref: str) -> list[FileChange]: ...
    async def archive_out(self, ref: str, path: str) -> AsyncIterator[bytes]:
        """A tar stream of `path`, as `docker cp` reads it."""
        ...

    async def archive_in(
        self, ref: str, path: str, tar: AsyncIterator[bytes], *, replace: bool = True, owned: bool = False
    ) -> None:
        """Unpack into the directory `path`. Without `replace` a directory and anything else refuse to take each
        other's place; `owned` gives everything to the container's user, where it has one."""
        ...

    async def container_size(self, ref: str) -> int:
        """Bytes of the files in its writable layer; walks them, so ask only when a person does."""
        ...

    async def volume_size(self, name: str) -> int:
        """Bytes of the files in a volume; as slow."""
        ...

    async def note_restart(self, ref: str, count: int) -> None:
        """Record the restart count shown by inspect."""
        ...

    # networks
    async def create_network(self, config: NetworkConfig) -> Network: ...
    async def remove_network(self, ref: str) -> None:
        """Conflict names the containers that use it."""
        ...

    async def connect(self, network: str, ref: str, endpoint: EndpointConfig) -> None: ...
    async def disconnect(self, network: str, ref: str, *, force: bool = False) -> None: ...

    # volumes
    async def create_volume(self, config: VolumeConfig) -> Volume: ...
    async def remove_volume(self, name: str, *, force: bool = False) -> None: ...

    # images
    async def pull(
        self,
        reference: str,
        *,
        platform: str = "",
        auth: RegistryAuth | None = None,
        progress: OnProgress | None = None,
    ) -> Image: ...
    async def push(
        self, reference: str, *, auth: RegistryAuth | None = None, progress: OnProgress | None = None
    ) -> str: ...
    async def login(self, registry: str, auth: RegistryAuth) -> None:
        """Ask a registry whether it takes these credentials. Raises Unauthorized, Forbidden, Unavailable."""
        ...

    async def remote_image(self, reference: str, *, auth: RegistryAuth | None = None) -> RemoteImage:
        """What the registry has under a name; nothing is fetched but small documents."""
        ...

    async def load(
        self, archive: str | AsyncIterator[bytes], *, progress: OnProgress | None = None
    ) -> tuple[Image, ...]:
        """Import an OCI-layout or docker-save archive, plain, gzip or zstd: a path, or its bytes, read to the end."""
        ...

    async def import_rootfs(
        self,
        archive: AsyncIterator[bytes],
        target: str = "",
        *,
        config: ImageConfig,
        comment: str = "",
        platform: str = "",
    ) -> Image:
        """The tar of a root file system as an image of one layer; `target` is its name, if any."""
        ...

    async def save(self, references: tuple[str, ...]) -> AsyncIterator[bytes]: ...
    async def image(self, ref: str) -> Image: ...
    async def tag(self, ref: str, target: str) -> None: ...
    async def remove_image(self, ref: str, *, force: bool = False) -> list[tuple[str, str]]:
        """("untagged", tag) and ("deleted", digest) in order."""
        ...

    async def commit(
        self, ref: str, target: str, *, config: ImageConfig | None = None, comment: str = "", author: str = ""
    ) -> Image: ...
    async def collect_garbage(self) -> int:
        """Remove blobs and layers nothing refers to; bytes given back."""
        ...

    async def storage(self) -> Storage:
        """What images take of the disk, and how full it is."""
        ...

    async def prune_images(self, policy: ImagePolicy, keep: Collection[str]) -> tuple[Pruned, ...]:
        """Where the disk is too full, remove images but those whose ids are in `keep` or that containers use."""
        ...
