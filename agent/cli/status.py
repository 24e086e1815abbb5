"""`trueup status`: what is declared, what is, and why they differ."""

from __future__ import annotations

import contextlib
import io
import json
import math
import sys
import time
from typing import TYPE_CHECKING, Any, NoReturn

import click

from agent.cli import show
from agent.cli.options import chosen
from runtime.errors import Unavailable

if TYPE_CHECKING:
    from agent.cli.client import Client

_PACE = 1.0
_TITLES = ("SERVICE", "STATE", "HEALTH", "PORTS", "SINCE", "RESTARTS", "WHY")


@click.command("status", epilog="Example: trueup status --watch")
@click.argument("projects", nargs=-1, metavar="[PROJECT…]")
@click.option("-w", "--watch", is_flag=True, help="Show again every second until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="Print the whole status as JSON.")
def command(projects: tuple[str, ...], watch: bool, as_json: bool) -> None:
    """Show projects and services, their state, health and ports, and why something is not as declared."""
    client = chosen().client()
    if watch and not as_json and sys.stdout.isatty():
        _live(client, projects)
    while True:
        tree = client.get("/trueup/v1/status")
        if as_json:
            click.echo(json.dumps(tree, indent=None if watch else 2))
        else:
            print_status(tree, projects)
        if not watch:
            return
        time.sleep(_PACE)


def _live(client: Client, projects: tuple[str, ...]) -> NoReturn:
    """The table in place, until Ctrl-C; an agent that is away for a moment is said, and awaited."""
    from rich.live import Live
    from rich.text import Text

    click.get_current_context().color = True  # the picture is drawn into memory, but for a terminal
    with Live(auto_refresh=False, screen=True) as live:
        while True:
            with contextlib.redirect_stdout(io.StringIO()) as drawn:
                try:
                    print_status(client.get("/trueup/v1/status"), projects)
                except Unavailable as e:
                    click.echo(str(e))
            live.update(Text.from_ansi(drawn.getvalue()), refresh=True)
            time.sleep(_PACE)


def print_status(tree: dict[str, Any], only: tuple[str, ...] = ()) -> None:
    """The table, then what a person has to know or do."""
    names = [p["name"] for p in tree["projects"]]
    for name in only:
        if name not in names:
            raise show.not_found("project", name, names)
    projects = [p for p in tree["projects"] if not only or p["name"] in only]
    rows = [service_row(s, tree["at"]) for p in projects for s in p["services"]]
    show.table(_TITLES, rows)
    notes = [*_file_notes(tree["files"]), *(note for p in projects for note in _project_notes(p))]
    pending = tree["pending_plan"]
    notes += [f"alert: {alert}" for alert in tree["alerts"] if not pending or pending not in alert]
    if pending:
        notes.append(f"plan {tree['pending_plan']} waits: see `trueup plan`, then `trueup approve`")
    if rows and notes:
        click.echo()
    for note in notes:
        click.echo(note)
    if not rows and not notes:
        click.echo("nothing is declared: put a compose file into one of the agent's spec directories")


def service_row(service: dict[str, Any], now: float) -> tuple[str, ...]:
    """One line of the table."""
    replicas = service["replicas"]
    running = [r for r in replicas if r["state"] == "running"]
    return (
        f"{service['project']}/{service['name']}",
        state_text(service, now),
        _health(running),
        ", ".join(dict.fromkeys(port_text(p) for r in replicas for p in r["ports"])) or "-",
        show.ago(min((r["started_at"] for r in running), default=0.0), now),
        str(sum(r["restarts"] for r in replicas)),
        why_text(service),
    )


def state_text(service: dict[str, Any], now: float) -> str:
    """ "running", "running 1/2", "exited 1, again in 3 s", "missing", …"""
    desired, running = service["desired"], service["running"]
    if running and running >= desired:
        return "running" if desired <= 1 else f"running {running}/{desired}"
    if running:
        return f"running {running}/{desired}"
    if not service["replicas"]:
        return "missing" if desired else "not wanted"
    if ready_of(service).get("reason") == "Down" and all(r["state"] == "missing" for r in service["replicas"]):
        return "down"
    replica = service["replicas"][0]
    text = str(replica["state"])
    if text == "exited" and replica["exit_code"] == 0 and ready_of(service).get("status") == "True":
        return "done"
    if text == "exited" and replica["exit_code"] is not None:
        text += f" {replica['exit_code']}"
    if replica["stopped_by"]:
        text += f", stopped by {replica['stopped_by']}"
    elif replica["next_attempt"] > now:
        text += f", again in {math.ceil(replica['next_attempt'] - now)} s"
    return text


def _health(replicas: list[dict[str, Any]]) -> str:
    states = {r["health"] for r in replicas} - {"none"}
    return next((s for s in ("unhealthy", "starting", "healthy") if s in states), "-")


def port_text(port: dict[str, Any]) -> str:
    """ "8080→80/tcp", with the address where one was chosen."""
    address = f"[{port['host_ip']}]" if ":" in port["host_ip"] else port["host_ip"]
    host = f"{address}:{port['host_port']}" if address else str(port["host_port"])
    return f"{host}→{port['container_port']}/{port['protocol']}"


def ready_of(service: dict[str, Any]) -> dict[str, Any]:
    """Its Ready condition, {} when there is none."""
    return next((c for c in service["conditions"] if c["type"] == "Ready"), {})


def why_text(service: dict[str, Any]) -> str:
    """Why it is not as declared, or what is worth knowing about it; "" when there is nothing to say."""
    ready = ready_of(service)
    if ready and ready["status"] != "True":
        return str(ready["message"] or ready["reason"])
    errors = [r["error"] for r in service["replicas"] if r["error"]]
    drifts = [f"drift: {d}" for r in service["replicas"] for d in r["drift"]]
    rolled_back = [ready["message"]] if ready.get("message") else []
    return next(iter([*errors, *drifts, *rolled_back, service["note"]]), "")


def _file_notes(files: list[dict[str, Any]]) -> list[str]:
    notes = []
    for file in files:
        if file["state"] in ("loaded", "removed"):
            continue
        kept = ": its last good version is kept" if file["kept"] else ""
        notes.append(click.style(f"{file['path']} is {file['state']}{kept}", fg="red"))
        notes += [f"  {p['path']}:{p['line']}:{p['column']}: {p['message']}" for p in file["problems"]]
    return notes


def _project_notes(project: dict[str, Any]) -> list[str]:
    notes = [f"{project['name']}: {notice}" for notice in project["notices"]]
    if hold := project["hold"]:
        who = f" by {hold['who']}" if hold["who"] else ""
        until = f" until {show.clock(hold['until'])}" if hold["until"] else ""
        reason = f": {hold['reason']}" if hold["reason"] else ""
        notes.append(f"{project['name']} is held ({hold['kind']}){who}{until}{reason}")
    return notes
