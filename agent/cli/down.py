"""`trueup down`: take projects away; volumes stay unless asked for."""

from __future__ import annotations

import os
import pwd
import time
from typing import Any

import click

from agent.cli.client import Client
from agent.cli.left import of_no_project
from agent.cli.options import chosen
from runtime.errors import TimedOut

PROJECT = "com.docker.compose.project"
_PATIENCE = 120.0


@click.command("down", epilog="Example: trueup down ./examples/01-hello")
@click.argument("targets", nargs=-1, metavar="[PATH|PROJECT…]")
@click.option("--all", "everything", is_flag=True, help="Every project that is declared or has containers.")
@click.option("--volumes", is_flag=True, help="Remove named volumes too; their data is lost.")
def command(targets: tuple[str, ...], everything: bool, volumes: bool) -> None:
    """Take the containers and networks of projects away, and keep them away until `trueup up`.

    Works without a running agent as well. What was made through the Docker API is of no project, and stays.
    """
    if bool(targets) is everything:
        raise click.UsageError("name a spec file, directory or project, or give --all")
    wanted = [target_of(target) for target in targets]
    client = chosen().client()
    if client.answers():
        for target in projects_of(client) if everything else wanted:
            take_down(client, target, volumes)
        for line in _left(client) if everything else ():
            click.echo(f"left: {line}")
        return
    from agent.cli.local import down_here

    removed, left = down_here(chosen().settings(), wanted, volumes, who())
    for project, lines in removed:
        for line in lines or ("nothing is left of it",):
            click.echo(f"{project}: {line}")
    for line in left:
        click.echo(f"left: {line}")


def _left(client: Client) -> list[str]:
    listed = client.get("/networks"), client.get("/volumes")["Volumes"] or ()
    networks, volumes = (((thing["Name"], thing["Labels"]) for thing in things) for things in listed)
    containers = ((c["Names"][0].removeprefix("/"), c["Labels"]) for c in client.get("/containers/json", all=1))
    return of_no_project(containers, networks, volumes)


def take_down(client: Client, target: str, volumes: bool) -> None:
    """Ask the agent, and wait until it is done."""
    plan = client.post("/trueup/v1/down", {"target": target, "volumes": volumes, "by": who()})
    for step in plan["steps"]:
        click.echo(f"{step['project'] or target}: {step['text']}")
    for project in {step["project"] for step in plan["steps"] if step["project"]}:
        _await_end(client, project)


def _await_end(client: Client, project: str) -> None:
    deadline = time.monotonic() + _PATIENCE
    while left := [c for c in client.get("/containers/json", all=1) if _ours(c, project)]:
        if time.monotonic() > deadline:
            names = ", ".join(c["Names"][0].removeprefix("/") for c in left)
            raise TimedOut(
                f"cannot take {project} down in {_PATIENCE:.0f} s: {names} remain", hint="see `trueup events`"
            )
        time.sleep(0.1)


def _ours(container: dict[str, Any], project: str) -> bool:
    labels = container["Labels"] or {}
    return "io.trueup.service" in labels and labels.get(PROJECT) == project


def projects_of(client: Client) -> list[str]:
    """Names of all projects: declared ones, and those only containers remember."""
    declared = [p["name"] for p in client.get("/trueup/v1/status")["projects"]]
    labels = [c["Labels"] or {} for c in client.get("/containers/json", all=1)]
    seen = [label[PROJECT] for label in labels if "io.trueup.service" in label and PROJECT in label]
    return list(dict.fromkeys([*declared, *seen]))


def target_of(text: str) -> str:
    """An existing path as an absolute one, else the project's name as it is."""
    return os.path.abspath(text) if os.path.exists(text) else text


def who() -> str:
    """Who asks, for the journal: the person behind sudo, if any."""
    named = os.environ.get("SUDO_USER") or os.environ.get("USER")
    try:
        return named or pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"
