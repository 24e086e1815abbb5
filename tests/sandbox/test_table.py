"""docs/sandbox.md says what the probe prints in a container of ours, and nothing of that is weaker than the peers'."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.harness import AgentUnderTest
from tests.sandbox import stage, table

APPARMOR = Path("/sys/module/apparmor/parameters/enabled")


def as_written() -> tuple[tuple[table.Column, ...], str]:
    return table.read(table.FILE.read_text())


@pytest.mark.privileged
def test_a_default_spec_gives_what_the_document_says(scratch: Path) -> None:
    directory = stage.fill(scratch / "probe")
    with AgentUnderTest(scratch) as agent:
        (agent.specs / "compose.yaml").write_text(stage.spec(directory))
        agent.until("the probe has printed everything", (directory / "out").exists)
        seen = table.parse((directory / "out").read_text())
        inspected = agent.containers()["probe"]
    assert {"/proc/kallsyms", "/sys/firmware"} <= set(inspected["HostConfig"]["MaskedPaths"])
    assert inspected["AppArmorProfile"] == ("trueup-default" if APPARMOR.exists() else "")
    (ours, *others), machine = as_written()
    if APPARMOR.exists():  # the document is written where there is none
        assert seen["apparmor"] == "trueup-default (enforce)"
        seen["apparmor"] = ours.rows["apparmor"]
    now = table.render((table.Column(table.OURS, seen), *others), machine)
    assert now == table.FILE.read_text(), "write it anew: sudo scripts/sandbox-table"


def test_every_row_is_explained_and_filled() -> None:
    for column in as_written()[0]:
        assert column.rows.keys() == table.ROWS.keys(), column.title


def test_no_list_of_rights_is_longer_than_a_peers() -> None:
    ours, *others = as_written()[0]
    for key in ("caps-Bnd", "shared-namespaces", "host-facts", "writable-kernel-paths", "nodes-made", "nodes-opened"):
        for other in others:
            assert words(ours, key) <= words(other, key), f"{key}: {other.title} gives less"


def words(column: table.Column, key: str) -> set[str]:
    return set(column.rows[key].split()) - {"none"}


def test_no_call_is_open_that_a_peer_shuts() -> None:
    ours, *others = as_written()[0]
    calls = [key for key in table.ROWS if key.startswith("call ")]
    open_here = {key for key in calls if ours.rows[key] == "ok"}
    assert open_here == {f"call {name}" for name in ("socket-netlink", "socket-ping", "ptrace", "process_vm_readv")}
    for other in others:
        refused = {key for key in open_here if other.rows[key] == "EPERM"}
        assert refused <= {"call process_vm_readv"}, f"{other.title} refuses {refused}"  # Docker allows it since 4.8
