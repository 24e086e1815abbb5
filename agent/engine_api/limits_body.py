"""Docker's resource fields and restart policies to ours, and back for inspect."""

from __future__ import annotations

from typing import Any

from agent.engine_api.container_body import Resources, RestartPolicyBody, ThrottleBody
from runtime.engine.limit_checks import check_cpus
from runtime.engine.model import Limits, RestartPolicy, ThrottleDevice
from runtime.errors import InvalidInput

_MINIMUM_MEMORY = 6 * 1024 * 1024
_POLICIES = ("no", "always", "on-failure", "unless-stopped")


def limits_of(body: Resources, base: Limits | None = None) -> Limits:
    """Limits asked for, over `base` where the body says nothing (0 and "" are nothing). Raises InvalidInput."""
    base = base or Limits(pids=None)
    _check(body, base)
    pids = base.pids if body.PidsLimit is None else (body.PidsLimit if body.PidsLimit > 0 else None)
    return Limits(
        memory=body.Memory or base.memory,
        memory_swap=body.MemorySwap or base.memory_swap,
        memory_reservation=body.MemoryReservation or base.memory_reservation,
        memory_swappiness=_swappiness(body, base),
        oom_kill_disable=base.oom_kill_disable if body.OomKillDisable is None else body.OomKillDisable,
        nano_cpus=body.NanoCpus or base.nano_cpus,
        cpu_shares=body.CpuShares or base.cpu_shares,
        cpu_quota=body.CpuQuota or base.cpu_quota,
        cpu_period=body.CpuPeriod or base.cpu_period,
        cpuset_cpus=body.CpusetCpus or base.cpuset_cpus,
        cpuset_mems=body.CpusetMems or base.cpuset_mems,
        pids=pids,
        blkio_weight=body.BlkioWeight or base.blkio_weight,
        blkio_weight_device=tuple(ThrottleDevice(path=d.Path, rate=d.Weight) for d in body.BlkioWeightDevice or ())
        or base.blkio_weight_device,
        read_bps=_throttle(body.BlkioDeviceReadBps) or base.read_bps,
        write_bps=_throttle(body.BlkioDeviceWriteBps) or base.write_bps,
        read_iops=_throttle(body.BlkioDeviceReadIOps) or base.read_iops,
        write_iops=_throttle(body.BlkioDeviceWriteIOps) or base.write_iops,
    )


def _swappiness(body: Resources, base: Limits) -> int | None:
    value = body.MemorySwappiness
    if value is None or value == -1:
        return base.memory_swappiness
    if not 0 <= value <= 100:
        raise InvalidInput(f"invalid value: {value}, valid memory swappiness range is 0-100")
    return value


def _check(body: Resources, base: Limits) -> None:
    memory, swap = body.Memory or base.memory or 0, body.MemorySwap or 0
    if body.Memory and body.Memory < _MINIMUM_MEMORY:
        raise InvalidInput("Minimum memory limit allowed is 6MB")
    if swap > 0 and not memory:
        raise InvalidInput("You should always set the Memory limit when using Memoryswap limit, see usage")
    if swap > 0 and swap < memory:
        raise InvalidInput("Minimum memoryswap limit should be larger than memory limit, see usage")
    if body.MemoryReservation and memory and body.MemoryReservation > memory:
        raise InvalidInput("Minimum memory limit can not be less than memory reservation limit, see usage")
    if body.NanoCpus and (body.CpuQuota or body.CpuPeriod):
        raise InvalidInput("Conflicting options: Nano CPUs and CPU quota or period cannot both be set")
    check_cpus(body.NanoCpus, here_only=True)
    if body.BlkioWeight and not 10 <= body.BlkioWeight <= 1000:
        raise InvalidInput("Range of blkio weight is from 10 to 1000")


def _throttle(devices: list[ThrottleBody] | None) -> tuple[ThrottleDevice, ...]:
    return tuple(ThrottleDevice(path=d.Path, rate=d.Rate) for d in devices or ())


def restart_of(body: RestartPolicyBody | None, *, auto_remove: bool = False) -> RestartPolicy:
    """A restart policy. Raises InvalidInput in Docker's words."""
    name = (body.Name if body else None) or "no"
    retries = (body.MaximumRetryCount if body else None) or 0
    if name not in _POLICIES:
        raise InvalidInput(f"invalid restart policy: unknown policy '{name}'; use one of {', '.join(_POLICIES)}")
    if retries and name != "on-failure":
        raise InvalidInput("invalid restart policy: maximum retry count can only be used with 'on-failure'")
    if retries < 0:
        raise InvalidInput("invalid restart policy: maximum retry count cannot be negative")
    if auto_remove and name != "no":
        raise InvalidInput("can't create 'AutoRemove' container with restart policy")
    return RestartPolicy(name=name, max_retries=retries)  # type: ignore[arg-type]  # checked above


def limits_json(limits: Limits) -> dict[str, Any]:
    """The fields of HostConfig that `limits_of` reads."""
    return {
        "CpuShares": limits.cpu_shares or 0,
        "Memory": limits.memory or 0,
        "NanoCpus": limits.nano_cpus or 0,
        "BlkioWeight": limits.blkio_weight or 0,
        "BlkioWeightDevice": [{"Path": d.path, "Weight": d.rate} for d in limits.blkio_weight_device],
        "BlkioDeviceReadBps": _throttle_json(limits.read_bps),
        "BlkioDeviceWriteBps": _throttle_json(limits.write_bps),
        "BlkioDeviceReadIOps": _throttle_json(limits.read_iops),
        "BlkioDeviceWriteIOps": _throttle_json(limits.write_iops),
        "CpuPeriod": limits.cpu_period or 0,
        "CpuQuota": limits.cpu_quota or 0,
        "CpuRealtimePeriod": 0,
        "CpuRealtimeRuntime": 0,
        "CpusetCpus": limits.cpuset_cpus,
        "CpusetMems": limits.cpuset_mems,
        "MemoryReservation": limits.memory_reservation or 0,
        "MemorySwap": limits.memory_swap or (2 * limits.memory if limits.memory else 0),
        "MemorySwappiness": limits.memory_swappiness,
        "OomKillDisable": limits.oom_kill_disable,
        "PidsLimit": limits.pids,
    }


def _throttle_json(devices: tuple[ThrottleDevice, ...]) -> list[dict[str, Any]] | None:
    return [{"Path": d.path, "Rate": d.rate} for d in devices] or None
