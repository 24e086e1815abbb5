"""`trueup history`: what a service was asked to be, revision by revision."""

from __future__ import annotations

import json

import click

from agent.cli import show
from agent.cli.options import chosen


@click.command("history", epilog="Example: trueup history shop/web")
@click.argument("service")
@click.option("--json", "as_json", is_flag=True, help="Print revisions as JSON.")
def command(service: str, as_json: bool) -> None:
    """List the revisions of SERVICE, newest first, with what changed and what came of it."""
    revisions = chosen().client().get("/trueup/v1/history", service=service)
    if as_json:
        click.echo(json.dumps(revisions, indent=2))
        return
    rows = [
        (f"{r['number']}{' *' if r['current'] else ''}", show.clock(r["created_at"]), r["verdict"], r["image"])
        for r in revisions
    ]
    more = [[*r["changes"], *([r["reason"]] if r["reason"] else [])] for r in revisions]
    show.table(("REVISION", "SINCE", "VERDICT", "IMAGE"), rows, more)
