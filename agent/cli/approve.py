"""`trueup approve`: let through what waits for a person."""

from __future__ import annotations

import click

from agent.cli.intents import ask
from agent.cli.plan import print_plan


@click.command("approve", epilog="Example: trueup approve shop")
@click.argument("project", default="")
def command(project: str) -> None:
    """Let through what waits: a plan in manual mode, or a mass removal; all of it, or one PROJECT's."""
    print_plan(ask("approve", target=project))
