"""The positive control: the attack that our loopback-published ports withstand works on dockerd.

A test that an attack fails proves something only if the attack is known to work somewhere.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from runtime.network.service import Networks
from runtime.network.values import NetworkSpec, Pool, PortRequest
from tests import leaks

from .test_isolation import attacker
from .test_service import A, run, start
from .world import ask, isolated, sh

pytestmark = [pytest.mark.privileged, pytest.mark.peer]

CGROUP = "/trueup-test-dockerd"
SERVE = "while true; do echo dockerd | busybox nc -l -p 80; done"


@contextmanager
def dockerd(home: Path) -> Iterator[str]:
    """A Docker daemon in this test's namespaces; yields the command line that reaches it."""
    sh("mount -t tmpfs tmpfs /run")
    argv = ["dockerd", "--data-root", f"{home}/data", "--exec-root", f"{home}/exec", "-H", f"unix://{home}/sock"]
    argv += ["--pidfile", f"{home}/pid", "--storage-driver", "vfs", "--cgroup-parent", CGROUP]
    with open(home / "log", "wb") as log:
        daemon = subprocess.Popen(argv, stdout=log, stderr=log)
    docker = f"docker -H unix://{home}/sock"
    try:
        deadline = time.monotonic() + 30
        while subprocess.run(f"{docker} version", shell=True, capture_output=True).returncode:
            assert time.monotonic() < deadline, (home / "log").read_text()
            time.sleep(0.1)
        yield docker
    finally:
        daemon.terminate()
        daemon.wait(20)
        leaks.remove_groups(CGROUP)


@pytest.mark.skipif(not shutil.which("dockerd"), reason="no dockerd: install docker.io")
@isolated
def test_a_neighbour_that_routes_to_the_container(tmp_path: Path) -> None:
    async def body(networks: Networks) -> None:
        outside = attacker()
        sh("sysctl -qw net.ipv4.ip_forward=1")  # a router already: else we forward nothing but our own containers
        net = await networks.create(NetworkSpec(id="n1" * 32, name="app", pools=(Pool(subnet="172.30.1.0/24"),)))
        web, state = await start(networks, net.id, A)
        web.serve(80, "web")
        wanted = [PortRequest(container_port=80, host_ip="127.0.0.1", host_port=8080)]
        await networks.publish(await networks.choose_ports(A, wanted))
        home = Path(tempfile.mkdtemp(prefix="tu-dockerd-", dir="/var/tmp"))
        try:
            with dockerd(home) as docker:
                sh(f"mkdir -p {home}/root/bin && cp /bin/busybox {home}/root/bin/")
                sh(f"tar -C {home}/root -c . | {docker} import - box")
                run_it = f"run -d --name web -e PATH=/bin -p 127.0.0.1:8081:80 box /bin/busybox sh -c '{SERVE}'"
                sh(f"{docker} {run_it}")
                address = sh(f"{docker} inspect -f '{{{{.NetworkSettings.IPAddress}}}}' web").strip()
                outside.run(f"ip route add {address}/32 via 10.9.0.1")
                assert ask("127.0.0.1", 8081, wait=2) == "dockerd\n"
                assert ask(address, 80, box=outside, wait=2) == "dockerd\n"  # the attack works
                assert ask("127.0.0.1", 8080).startswith("web")  # side by side with dockerd
                assert ask(state.ipv4, 80, box=outside) == "timeout"  # and fails on ours
                sh(f"{docker} rm -f web")
        finally:
            shutil.rmtree(home, ignore_errors=True)

    run(body, tmp_path)
