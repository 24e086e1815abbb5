"""Values that cross the border of the runtime: what is asked for, and what was seen.

All are frozen dataclasses of plain types, so they compare, print, and round-trip through JSON
(`to_json`, `from_json` in `codec`). `*Config` is what a caller asks for and is stored as given;
`Container`, `Image`, `Network`, `Volume` are observations and contain no choices.
Sizes are bytes, times are seconds since the epoch (float), durations are seconds.
"""

from __future__ import annotations

from runtime.engine.model.images import (
    HistoryEntry,
    Image,
    ImageConfig,
    Progress,
    Pruned,
    RegistryAuth,
    RemoteImage,
    Storage,
)
from runtime.engine.model.networks import (
    IpamPool,
    Network,
    NetworkConfig,
    Volume,
    VolumeConfig,
)
from runtime.engine.model.seen import (
    Container,
    Endpoint,
    ExecConfig,
    Exit,
    FileChange,
    LogEntry,
    LogQuery,
    NetworkStats,
    State,
    Stats,
)
from runtime.engine.model.wanted import (
    ContainerConfig,
    ContainerUpdate,
    Device,
    EndpointConfig,
    File,
    Healthcheck,
    HugetlbLimit,
    Limits,
    LogConfig,
    Mount,
    Namespaces,
    NetworkingConfig,
    PortBinding,
    RestartPolicy,
    Security,
    ThrottleDevice,
    Ulimit,
)
from runtime.engine.model.whole import (
    Event,
    Snapshot,
)

__all__ = [
    "Container",
    "ContainerConfig",
    "ContainerUpdate",
    "Device",
    "Endpoint",
    "EndpointConfig",
    "Event",
    "ExecConfig",
    "Exit",
    "File",
    "FileChange",
    "Healthcheck",
    "HistoryEntry",
    "HugetlbLimit",
    "Image",
    "ImageConfig",
    "IpamPool",
    "Limits",
    "LogConfig",
    "LogEntry",
    "LogQuery",
    "Mount",
    "Namespaces",
    "Network",
    "NetworkConfig",
    "NetworkStats",
    "NetworkingConfig",
    "PortBinding",
    "Progress",
    "Pruned",
    "RegistryAuth",
    "RemoteImage",
    "RestartPolicy",
    "Security",
    "Snapshot",
    "State",
    "Stats",
    "Storage",
    "ThrottleDevice",
    "Ulimit",
    "Volume",
    "VolumeConfig",
]
