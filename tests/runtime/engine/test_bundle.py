"""From records to bundles: what of a config is decided before anything starts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from runtime.engine import bundle as b
from runtime.engine import userns, validation
from runtime.engine.layout import Layout
from runtime.engine.machine import Machine
from runtime.engine.model import ContainerConfig, Device, Mount, Namespaces, Security, Ulimit
from runtime.engine.record import Record
from runtime.errors import InvalidInput, Unsupported
from runtime.kernel import capability

LAYOUT = Layout("/data", "/run/t")
HERE = Machine(apparmor="trueup-default")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"hostname": "a\n10.0.0.1 b"}, "hostname .* is not one word"),
        ({"hostname": "h" * 65}, "hostname is longer than 64 bytes"),
        ({"domainname": "é" * 33}, "domainname is longer than 64 bytes"),
        ({"ulimits": (Ulimit(name="nofile", soft=5, hard=3),)}, "must be less than or equal to hard limit: 5 > 3"),
        ({"ulimits": (Ulimit(name="nofile", soft=-1, hard=3),)}, "must be less than or equal to hard limit"),
        ({"ulimits": (Ulimit(name="nofile", soft=-2, hard=-2),)}, "-1 is no limit"),
        ({"devices": (Device(source="/dev/zero", target="/zz"),)}, "cannot show device /dev/zero at /zz"),
        ({"devices": (Device(source="/dev/zero", target="/dev/../x"),)}, "cannot show device /dev/zero at /dev/../x"),
        ({"security": Security(seccomp='{"defaultAction": "NO"}')}, "unknown action 'NO'"),
        ({"ulimits": (Ulimit(name="files", soft=1, hard=1),)}, "there is none of that name"),
    ],
)
def test_what_could_never_start_is_not_made(changes: dict[str, object], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        validation.validate(record(**changes))
    validation.validate(record(hostname="h" * 64, ulimits=(Ulimit(name="nofile", soft=3, hard=-1),)))


def record(**changes: object) -> Record:
    config = ContainerConfig(name="web", image="app:1", **changes)  # type: ignore[arg-type]
    return Record(
        id="c" * 64, config=config, image_id="sha256:1", created_at=0.0, layers=(), args=("true",), environment=(),
        working_dir="/", user="", stop_signal="SIGTERM", healthcheck=None, mounts=config.mounts,
    )  # fmt: skip


def around(machine: Machine = HERE) -> b.Surroundings:
    return b.Surroundings(lower=("/layer",), machine=machine)


@pytest.mark.parametrize(
    ("security", "profile"),
    [
        (Security(), "trueup-default"),
        (Security(privileged=True), ""),
        (Security(apparmor="unconfined"), ""),
        (Security(apparmor="own"), "own"),
        (Security(apparmor="own", privileged=True), "own"),
    ],
)
def test_the_apparmor_profile(security: Security, profile: str) -> None:
    assert b.bundle(record(security=security), around(), LAYOUT).apparmor == profile
    assert b.for_exec(record(security=security), HERE, LAYOUT).apparmor == profile
    assert b.bundle(record(), around(Machine()), LAYOUT).apparmor == ""


@pytest.mark.parametrize(
    ("security", "note", "machine", "forbidden"),
    [
        (Security(), "", Machine(), False),
        (Security(), userns.CHOSEN, Machine(), True),
        (Security(), "is privileged: no user namespace", Machine(), False),
        (Security(no_new_privileges=False), userns.CHOSEN, Machine(), False),
        (Security(), "", Machine(no_new_privileges=True), True),
        (Security(privileged=True), userns.CHOSEN, Machine(no_new_privileges=True), False),
    ],
)
def test_no_new_privileges(security: Security, note: str, machine: Machine, forbidden: bool) -> None:
    found = replace(record(security=security), userns_note=note)
    assert b.bundle(found, around(machine), LAYOUT).no_new_privileges is forbidden


def test_all_is_what_there_is_to_give() -> None:
    permitted = set(capability.names(capability.get()[1]))
    for security in (Security(privileged=True), Security(cap_add=("ALL",))):
        assert set(b.capabilities(record(security=security).config)) <= permitted | set(b.defaults.CAPABILITIES)


def test_labels_are_refused_where_they_would_mean_something(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labelled = record(security=Security(label=("disable", "type:svirt_t")))
    monkeypatch.setattr(validation, "SELINUX", str(tmp_path / "enforce"))
    validation.validate(labelled)
    (tmp_path / "enforce").touch()
    validation.validate(record(security=Security(label=("disable",))))
    with pytest.raises(Unsupported, match="SELinux label type:svirt_t"):
        validation.validate(labelled)


def test_mounts_and_shared_memory_as_asked() -> None:
    mount = Mount(type="bind", source="/a", target="/m", recursive=False, read_only=True, subpath="x")
    found = b.bundle(record(mounts=(mount,), namespaces=Namespaces(ipc="none")), around(), LAYOUT)
    assert found.shm_size == 0
    assert (found.mounts[0].recursive, found.mounts[0].read_only, found.mounts[0].subpath) == (False, True, "x")
