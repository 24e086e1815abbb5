"""`trueup get`: everything about one service, for programs and for who wants to see it all."""

from __future__ import annotations

import json
from typing import Any

import click

from agent.cli import show
from agent.cli.options import chosen


@click.command("get", epilog="Example: trueup get shop/web -o json | jq .conditions")
@click.argument("service")
@click.option("-o", "--output", type=click.Choice(["yaml", "json"]), default="yaml", help="Default: yaml.")
def command(service: str, output: str) -> None:
    """Print the state of SERVICE: conditions, replicas, the files it comes from, and its revisions."""
    client = chosen().client()
    tree = found(client.get("/trueup/v1/status"), service)
    name = f"{tree['project']}/{tree['name']}"
    tree["revisions"] = client.get("/trueup/v1/history", service=name)
    tree["why"] = client.get("/trueup/v1/why", service=name)
    if output == "json":
        click.echo(json.dumps(tree, indent=2, ensure_ascii=False))
        return
    from specs.render import to_yaml

    click.echo(to_yaml(tree), nl=False)


def found(status: dict[str, Any], service: str) -> dict[str, Any]:
    """The service of that name, with the files of its project. Raises NotFound."""
    everyone = [(p, s) for p in status["projects"] for s in p["services"]]
    named = [(p, s) for p, s in everyone if service in (s["name"], f"{s['project']}/{s['name']}")]
    if len(named) == 1:
        project, tree = named[0]
        return {**tree, "files": project["files"], "hold": project["hold"]}
    known = [f"{s['project']}/{s['name']}" for _, s in named or everyone]
    raise show.not_found("service", service, known + [s["name"] for _, s in everyone if not named])
