"""`trueup resume`: end a suspension."""

from __future__ import annotations

import click

from agent.cli.intents import ask


@click.command("resume", epilog="Example: trueup resume shop")
@click.argument("project")
def command(project: str) -> None:
    """Keep PROJECT true to its specs again."""
    ask("resume", target=project)
    click.echo(f"{project} is kept true again")
