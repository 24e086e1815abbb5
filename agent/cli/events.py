"""`trueup events`: the journal, and with -f what happens from now on."""

from __future__ import annotations

import json
from typing import Any

import click

from agent.cli import show
from agent.cli.options import chosen


@click.command("events", epilog="Example: trueup events -f --project shop")
@click.option("-f", "--follow", is_flag=True, help="Go on as things happen.")
@click.option("-n", "--tail", default=50, show_default=True, help="How many entries of the journal.")
@click.option("--project", default="", help="Only this project's.")
@click.option("--service", default="", help="Only this service's.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def command(follow: bool, tail: int, project: str, service: str, as_json: bool) -> None:
    """Show what was done, when, why and with which result; oldest first."""
    client = chosen().client()
    entries = client.get("/trueup/v1/journal", project=project, service=service, limit=tail) if tail > 0 else []
    for entry in reversed(entries):
        click.echo(json.dumps(entry) if as_json else entry_text(entry))
    if not follow:
        return
    for event in client.lines("GET", "/trueup/v1/events"):
        attributes = event["attributes"]
        wanted = not project or project in (attributes.get("project"), attributes.get("com.docker.compose.project"))
        wanted &= not service or service in (attributes.get("service"), attributes.get("com.docker.compose.service"))
        if wanted:
            text = json.dumps(event) if as_json else event_text(event)
            if text:
                click.echo(text)


def entry_text(entry: dict[str, Any]) -> str:
    """One line of the journal: when, whose, what, why, how long or why not."""
    where = "/".join(filter(None, (entry["project"], entry["service"])))
    target, detail = entry["target"], entry["detail"]
    told = detail.startswith((entry["kind"], "wait", "pause", "run "))
    what = detail if told else f"{entry['kind']} {target if target != where else ''}".rstrip()
    cause = f" — {entry['cause']}" if entry["cause"] else ""
    took = f" ({entry['seconds']:.2f} s)" if entry["seconds"] >= 0.005 else ""
    result = "" if entry["result"] in ("ok", "note") else f": {entry['result']}"
    more = f": {detail}" if detail and detail != what else ""
    return f"{show.clock(entry['at'])} {where + ' ' if where else ''}{what}{took}{cause}{result}{more}"


def event_text(event: dict[str, Any]) -> str:
    """One event as it happens; "" for the beginning of what is told when it ends."""
    attributes = event["attributes"]
    when, cause = show.clock(event["time_ns"] / 1e9), f" — {attributes['cause']}" if attributes.get("cause") else ""
    if event["type"] == "service":
        text, result = attributes.get("text", event["id"]), attributes.get("result", "")
        if result == "began" and not text.startswith(("wait", "pause", "pull")):
            return ""
        where = "/".join(filter(None, (attributes.get("project"), attributes.get("service"))))
        took = f" ({float(attributes['seconds']):.2f} s)" if "seconds" in attributes else ""
        failure = f": {attributes['error']}" if attributes.get("error") else ""
        return f"{when} {where + ' ' if where else ''}{text}{' …' if result == 'began' else ''}{took}{cause}{failure}"
    name = attributes.get("name") or event["id"][:12]
    code = f" (exit code {attributes['exitCode']})" if "exitCode" in attributes else ""
    return f"{when} {event['type']} {event['action']} {name}{code}{cause}"
