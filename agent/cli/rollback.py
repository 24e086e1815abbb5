"""`trueup rollback`: an earlier revision of a service, until its spec changes."""

from __future__ import annotations

import click

from agent.cli.intents import ask


@click.command("rollback", epilog="Example: trueup rollback shop/web 3")
@click.argument("service")
@click.argument("revision", type=click.IntRange(min=1), required=False)
def command(service: str, revision: int | None) -> None:
    """Go back to REVISION of SERVICE (default: the last good one before), and stay there until its spec changes."""
    tree = ask("rollback", service=service, revision=revision or 0)
    click.echo(f"{service} goes back to revision {tree['number']} ({tree['image']})")
