"""A config completed by its image: Docker's rules."""

from __future__ import annotations

import pytest

from runtime.engine.model import (
    ContainerConfig,
    Device,
    Healthcheck,
    ImageConfig,
    Mount,
    NetworkingConfig,
    Security,
)
from runtime.engine.resolve import anonymous_volumes, resolve
from runtime.engine.userns import FIRST_ID, RANGE, allocate, reason_without
from runtime.errors import InvalidInput

IMAGE = ImageConfig(
    entrypoint=("/entry",),
    command=("serve",),
    environment=("PATH=/bin", "A=image"),
    working_dir="/srv",
    user="app",
    volumes=("/data", "/cache/"),
    healthcheck=Healthcheck(test=("CMD", "check")),
)


def test_an_images_stop_signal_that_is_none_is_left_out() -> None:
    for given, used in (("FOO", "SIGTERM"), ("", "SIGTERM"), ("SIGRTMAX-1", "SIGRTMAX-1"), ("9", "9")):
        assert resolve(config(command=("x",)), ImageConfig(stop_signal=given)).stop_signal == used
    assert resolve(config(command=("x",), stop_signal="INT"), ImageConfig(stop_signal="FOO")).stop_signal == "INT"


def test_a_working_directory_is_absolute() -> None:
    with pytest.raises(InvalidInput, match="the working directory 'rel' is invalid, it needs to be an absolute path"):
        resolve(config(command=("x",), working_dir="rel"), IMAGE)
    assert resolve(config(command=("x",)), ImageConfig(working_dir="rel")).working_dir == "rel"


def test_variables_without_a_name() -> None:
    with pytest.raises(InvalidInput, match="invalid environment variable: =x"):
        resolve(config(command=("x",), environment=("=x",)), IMAGE)
    image = ImageConfig(environment=("=x", "A=1"))
    assert "=x" not in resolve(config(command=("x",)), image).environment


def config(**changes: object) -> ContainerConfig:
    return ContainerConfig(name="c", image="i", **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("entrypoint", "command", "expected"),
    [
        (None, None, ("/entry", "serve")),
        (None, ("other",), ("/entry", "other")),
        (("/mine",), None, ("/mine",)),
        (("/mine",), ("x",), ("/mine", "x")),
        ((), ("x",), ("x",)),
    ],
)
def test_an_own_entrypoint_drops_the_images_command(
    entrypoint: tuple[str, ...] | None, command: tuple[str, ...] | None, expected: tuple[str, ...]
) -> None:
    assert resolve(config(entrypoint=entrypoint, command=command), IMAGE).args == expected


def test_no_command_at_all_is_an_error() -> None:
    with pytest.raises(InvalidInput, match="no command specified"):
        resolve(config(entrypoint=()), IMAGE)


def test_variables_stand_over_the_images_and_a_bare_name_removes_one() -> None:
    found = resolve(config(environment=("A=mine", "B=", "PATH")), IMAGE).environment
    assert found == ("A=mine", "B=")


def test_declared_volumes_become_anonymous_unless_mounted_over() -> None:
    mounts = resolve(config(mounts=(Mount(type="bind", source="/x", target="/cache"),)), IMAGE, lambda: "v1").mounts
    assert [(m.type, m.source, m.target) for m in mounts] == [("bind", "/x", "/cache"), ("volume", "v1", "/data")]
    assert anonymous_volumes(mounts) == ("v1",)


def test_a_check_without_a_test_takes_the_images_and_none_switches_off() -> None:
    tuned = resolve(config(healthcheck=Healthcheck(test=(), interval=1)), IMAGE).healthcheck
    assert tuned == Healthcheck(test=("CMD", "check"), interval=1)
    assert resolve(config(healthcheck=Healthcheck(test=("NONE",))), IMAGE).healthcheck is None


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, ""),
        ({"networking": NetworkingConfig(mode="host")}, "shares the host's network: no user namespace"),
        ({"security": Security(cap_add=("cap_sys_admin",))}, "adds capability SYS_ADMIN: no user namespace"),
        ({"security": Security(cap_add=("NET_BIND_SERVICE",))}, ""),
        ({"devices": (Device(source="/dev/fuse", target="/dev/fuse"),)}, "uses the host's device /dev/fuse: no user"),
    ],
)
def test_a_piece_of_the_host_means_no_user_namespace(changes: dict[str, object], reason: str) -> None:
    assert reason_without(config(**changes)).startswith(reason)
    assert bool(reason_without(config(**changes))) is bool(reason)


def test_a_contradiction_is_an_error() -> None:
    with pytest.raises(InvalidInput, match="is privileged"):
        reason_without(config(security=Security(privileged=True, userns="private")))


def test_ranges_are_taken_from_below() -> None:
    assert allocate([]) == FIRST_ID
    assert allocate([FIRST_ID, FIRST_ID + 2 * RANGE]) == FIRST_ID + RANGE
