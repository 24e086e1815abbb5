"""`trueup ps`: containers, of specs and of API clients alike."""

from __future__ import annotations

import json
from typing import Any

import click

from agent.cli import show
from agent.cli.containers import PROJECT, SERVICE, listed, name_of
from agent.cli.options import chosen


@click.command("ps", epilog="Example: trueup ps --json | jq '.[].Names'")
@click.option("--json", "as_json", is_flag=True, help="Print them as the Engine API does.")
def command(as_json: bool) -> None:
    """List all containers with image, state and ports."""
    containers = listed(chosen().client())
    if as_json:
        click.echo(json.dumps(containers, indent=2))
        return
    show.table(("CONTAINER", "ID", "SERVICE", "IMAGE", "STATUS", "PORTS"), [_row(c) for c in containers])


def _row(container: dict[str, Any]) -> tuple[str, ...]:
    labels = container["Labels"] or {}
    service = f"{labels[PROJECT]}/{labels.get(SERVICE, '')}" if PROJECT in labels else "-"
    ports = dict.fromkeys(_port(p) for p in container["Ports"] if "PublicPort" in p)
    return (
        name_of(container),
        container["Id"][:12],
        service,
        container["Image"],
        container["Status"],
        ", ".join(ports) or "-",
    )


def _port(port: dict[str, Any]) -> str:
    """As `trueup status` shows it: the address only when it is not every one."""
    address = port.get("IP", "")
    host = f"[{address}]" if ":" in address else address
    told = f"{host}:" if address not in ("", "0.0.0.0", "::") else ""
    return f"{told}{port['PublicPort']}→{port['PrivatePort']}/{port['Type']}"
