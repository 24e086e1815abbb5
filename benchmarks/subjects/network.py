"""Bridged containers: what joining costs, connections and throughput, and DNS.

Server and client are the same small program, started in the network namespaces of containers and of the floor:
a veth pair, a bridge and a DNAT rule made by hand. "published" goes from the host to 127.0.0.1.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from benchmarks.client import Client
from benchmarks.engines import REPOSITORY, Engine, Trueup
from benchmarks.measure import percentile, row
from benchmarks.samples import Samples
from benchmarks.stage import Stage
from benchmarks.table import Row, Table

PROBE = [sys.executable, "-I", str(REPOSITORY / "benchmarks/netprobe.py")]
Place = tuple[str, dict[str, str], str]  # name, client's namespace and server's address, published port
PORTS = {f"{n}/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}] for n in (80, 81)}
HAND_MADE = """
ip netns add hand1; ip netns add hand2; ip link add hand0 type bridge; ip addr add 10.99.0.1/24 dev hand0
ip link set hand0 up
for n in 1 2; do
    ip link add hv$n type veth peer name eth0 netns hand$n; ip link set hv$n master hand0 up
    ip -n hand$n addr add 10.99.0.1$n/24 dev eth0; ip -n hand$n link set eth0 up; ip -n hand$n link set lo up
    ip -n hand$n route add default via 10.99.0.1
done
echo 1 > /proc/sys/net/ipv4/conf/hand0/route_localnet
nft add table ip hand
nft add chain ip hand out '{ type nat hook output priority -100; }'
nft add chain ip hand post '{ type nat hook postrouting priority 100; }'
nft add rule ip hand out ip daddr 127.0.0.1 tcp dport 18999 dnat to 10.99.0.11:80
nft add rule ip hand post ip saddr 127.0.0.0/8 oifname hand0 masquerade
"""


def run(stage: Stage) -> Iterator[Table]:
    """Five tables."""
    engines, seconds = stage.engines(), "0.5" if stage.quick else "1.5"
    yield Table("bridge, address, names and two published ports added to a start", tuple(_joining(stage)))
    yield Table("many on one network", tuple(_crowd(stage)))
    paths: dict[str, list[Row]] = {}
    with ExitStack() as stack:
        places = [stack.enter_context(_by_hand()), *(stack.enter_context(_served(e)) for e in engines)]
        for path, found in _in_turn(places, 2 if stage.quick else 7).items():
            for name, (latency, rate) in found.items():
                base = paths.get(path, [])
                slow = base[0].value * 1.1 if base and base[0].value and name == "trueup" else None
                least = base[1].value * 0.95 if base and base[1].value and name == "trueup" else None
                paths.setdefault(path, []).extend([
                    Row(what=f"{name}: connect and one byte", value=latency, unit="µs", most=slow),
                    Row(what=f"{name}: throughput", value=rate, unit="GB/s", least=least, compare=False),
                ])  # fmt: skip
    for path, rows in paths.items():
        yield Table(path, tuple(rows))
    yield Table("DNS: the name of a neighbour, 16 questions at a time", tuple(_dns(engines, seconds)))


def _in_turn(places: list[Place], rounds: int) -> dict[str, dict[str, tuple[float, float]]]:
    """By path and name the medians of latency and rate, everybody measured in turn: a busy moment meets all."""
    found: dict[tuple[str, str], list[dict[str, float]]] = {}
    for _ in range(rounds):
        for name, where, port in places:
            published = _probe(None, "ask", "127.0.0.1", port, "0.4")
            between = _probe(where["client"], "ask", where["address"], "80", "0.4")
            found.setdefault(("published on 127.0.0.1", name), []).append(published)
            found.setdefault(("container to container", name), []).append(between)
    paths: dict[str, dict[str, tuple[float, float]]] = {}
    for (path, name), samples in found.items():
        medians = [percentile([sample[key] for sample in samples], 0.5) for key in ("latency", "rate")]
        paths.setdefault(path, {})[name] = (medians[0], medians[1])
    return paths


def _joining(stage: Stage) -> Iterator[Row]:
    for engine in stage.engines():
        engine.client.ask("POST", "/networks/create", {"Name": "bench"})
        alone, joined = Samples(), Samples()
        for number in range(stage.times(40 if isinstance(engine, Trueup) else 10) + 1):
            for samples, network in ((alone, "none"), (joined, "bench")):  # in turn: a busy moment meets both
                taken = _start(engine.client, network)
                if number:  # the first does not count
                    samples.append(taken)
        engine.client.ask("DELETE", "/networks/bench")
        added = percentile(joined, 0.5) - percentile(alone, 0.5)
        yield Row(what=engine.name, value=added, most=engine.target(12.0))
        yield Row(what=f"{engine.name}: a start with network none", value=percentile(alone, 0.5), compare=False)


def _start(client: Client, network: str) -> float:
    """Milliseconds of one start; with a network it gets two published ports."""
    ports = {} if network == "none" else {"PortBindings": PORTS}
    identity = client.create("sleep", "1000", network=network, **ports)
    begin = time.perf_counter()
    client.ask("POST", f"/containers/{identity}/start")
    taken = (time.perf_counter() - begin) * 1e3
    client.remove(identity)
    return taken


def _crowd(stage: Stage) -> Iterator[Row]:
    """Ours alone: the others would take minutes."""
    engine, many = stage.trueup(), 40 if stage.quick else 200
    engine.client.ask("POST", "/networks/create", {"Name": "bench"})
    first = sorted(_start(engine.client, "bench") for _ in range(stage.times(20)))
    ids = [engine.client.run("sleep", "1000", network="bench", PortBindings=PORTS) for _ in range(many)]
    next_ = sorted(_start(engine.client, "bench") for _ in range(stage.times(20)))
    for identity in ids:
        engine.client.remove(identity)
    engine.client.ask("DELETE", "/networks/bench")
    yield row("a start on an empty network, two ports", first)
    yield row(f"a start beside {many} with two ports each", next_, most=2 * percentile(first, 0.5))


@contextmanager
def _by_hand() -> Iterator[Place]:
    subprocess.run(["sh", "-ec", HAND_MADE], check=True)
    with _server("/run/netns/hand1"):
        yield "floor by hand", {"client": "/run/netns/hand2", "address": "10.99.0.11"}, "18999"


@contextmanager
def _served(engine: Engine) -> Iterator[Place]:
    port = str(18000 + len(engine.name))
    bound = {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": port}]}
    ids = [engine.client.run("sleep", "1000", network="bridge", **more) for more in ({"PortBindings": bound}, {})]
    server, client = (engine.client.ask("GET", f"/containers/{i}/json") for i in ids)
    address = str(next(iter(server["NetworkSettings"]["Networks"].values()))["IPAddress"])
    with _server(_netns(server)):
        yield engine.name, {"client": _netns(client), "address": address}, port
    for identity in ids:
        engine.client.remove(identity)


def _netns(tree: dict[str, Any]) -> str:
    return f"/proc/{tree['State']['Pid']}/ns/net"


@contextmanager
def _server(netns: str) -> Iterator[None]:
    process = subprocess.Popen(["nsenter", f"--net={netns}", *PROBE, "serve", "80"], start_new_session=True)
    try:
        for _ in range(100):
            found = subprocess.run(
                ["nsenter", f"--net={netns}", "ss", "-ltnH"], capture_output=True, text=True, check=True
            )
            if ":80 " in found.stdout:
                break
        yield
    finally:
        os.killpg(process.pid, 9)
        process.wait()


def _probe(netns: str | None, *words: str) -> dict[str, float]:
    command = [*([] if netns is None else ["nsenter", f"--net={netns}"]), *PROBE, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)}: {done.stderr[-400:]}")
    return dict(json.loads(done.stdout))


def _dns(engines: list[Engine], seconds: str) -> Iterator[Row]:
    for engine in engines:
        engine.client.ask("POST", "/networks/create", {"Name": "bench"})
        ids = [engine.client.run("sleep", "1000", name=name, network="bench") for name in ("asker", "neighbour")]
        pid = engine.client.ask("GET", f"/containers/{ids[0]}/json")["State"]["Pid"]
        lines = Path(f"/proc/{pid}/root/etc/resolv.conf").read_text().splitlines()
        server = next(line.split()[1] for line in lines if line.startswith("nameserver"))
        found = _probe(f"/proc/{pid}/ns/net", "resolve", server, "neighbour", seconds)
        yield Row(what=engine.name, value=found["rate"], unit="/s", least=engine.target(5000))
        yield Row(what=f"{engine.name}: p99", value=found["p99"], unit="ms", most=engine.target(5.0), compare=False)
        for identity in ids:
            engine.client.remove(identity)
        engine.client.ask("DELETE", "/networks/bench")
