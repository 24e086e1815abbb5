"""The plan of a container as text, and bundles through JSON."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from runtime.container import setup
from runtime.container.config import BoundFile, Bundle, Device, ExecRequest, Log, Mount, Namespaces, Rlimit
from runtime.errors import InvalidInput
from runtime.kernel import namespace as ns
from runtime.kernel.cgroup_values import Limits
from tests import golden_text

GOLDEN = Path(__file__).parents[2] / "golden/container"

BUNDLE = Bundle(
    id="c" * 64,
    directory="/d/c",
    run_directory="/r/c",
    lower=("/layers/2", "/layers/1"),
    upper="/d/c/upper",
    work="/d/c/work",
    args=("sh", "-c", "true"),
    cgroup="t/c",
    userns_base=1 << 20,
    tty=True,
    namespaces=Namespaces(net="7:8"),
    mounts=(
        Mount(type="bind", source="/srv/a", target="/data/inner", read_only=True),
        Mount(type="tmpfs", target="/data", size=1 << 20, options=("exec", "uid=5")),
        Mount(type="image", layers=("/layers/9",), target="/img"),
    ),
    files=(BoundFile(source="/r/c/hosts", target="/etc/hosts"),),
    devices=(Device(source="/dev/null", target="/dev/x"),),
    rlimits=(Rlimit(name="nofile", soft=1, hard=2),),
    sysctls={"net.core.somaxconn": "99"},
    limits=Limits(memory=5, read_bps=(("8:0", 3),)),
    log=Log(driver="local"),
)


def test_the_plan_as_text() -> None:
    directories = {"": "/cg/t/c", "memory": "/cg/memory/t/c"}
    golden_text.agrees(GOLDEN / "plan.txt", setup.plan(BUNDLE, directories).describe() + "\n")


def test_namespaces_become_flags() -> None:
    flags = setup.clone_flags(BUNDLE)
    assert flags & ns.CLONE_NEWUSER and flags & ns.CLONE_NEWPID and not flags & ns.CLONE_NEWNET
    shared = replace(BUNDLE, userns_base=0, namespaces=Namespaces(pid="host", ipc="host", uts="host", net="host"))
    assert setup.clone_flags(shared) & ~ns.CLONE_NEWTIME == ns.CLONE_NEWNS


def test_unknown_tmpfs_options_are_refused() -> None:
    with pytest.raises(InvalidInput):
        setup.plan(replace(BUNDLE, mounts=(Mount(type="tmpfs", target="/x", options=("frob",)),)), {"": "/cg"})


def test_a_bundle_survives_json() -> None:
    assert Bundle.from_json(BUNDLE.to_json()) == BUNDLE
    assert Bundle.from_json({}) != BUNDLE
    request = ExecRequest(bundle=BUNDLE, pid=1, start_time=2, args=("a", "b"), user="x")
    assert ExecRequest.from_json(request.to_json()) == request
