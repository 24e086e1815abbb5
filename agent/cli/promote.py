"""`trueup promote`: a person says the canary is good."""

from __future__ import annotations

import click

from agent.cli.intents import ask


@click.command("promote", epilog="Example: trueup promote shop/web")
@click.argument("service")
def command(service: str) -> None:
    """Let the canary of SERVICE go on to all replicas."""
    ask("promote", target=service)
    click.echo(f"{service} goes on to all replicas")
