"""Counters of a container's interfaces, read from outside its network namespace."""

from __future__ import annotations

from runtime.engine.model import NetworkStats


def read(pid: int) -> dict[str, NetworkStats]:
    """Interface name to counters, `lo` left out; empty when the process is gone. man 5 proc_pid_net."""
    try:
        with open(f"/proc/{pid}/net/dev", encoding="ascii") as file:
            lines = file.read().splitlines()[2:]
    except OSError:
        return {}
    return {name: stats for name, stats in map(_parse, lines) if name != "lo"}


def _parse(line: str) -> tuple[str, NetworkStats]:
    name, _, rest = line.partition(":")
    rx = [int(word) for word in rest.split()]
    return name.strip(), NetworkStats(
        rx_bytes=rx[0],
        rx_packets=rx[1],
        rx_errors=rx[2],
        rx_dropped=rx[3],
        tx_bytes=rx[8],
        tx_packets=rx[9],
        tx_errors=rx[10],
        tx_dropped=rx[11],
    )
