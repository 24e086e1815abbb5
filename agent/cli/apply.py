"""`trueup apply`: carry out exactly the plan a person has seen."""

from __future__ import annotations

import click

from agent.cli.intents import ask
from agent.cli.plan import print_plan


@click.command("apply", epilog="Example: trueup apply --plan 3f9a2c")
@click.option("--plan", required=True, metavar="ID", help="As `trueup plan` printed it.")
def command(plan: str) -> None:
    """Carry out a plan that was shown; refused when specs or containers have moved since."""
    print_plan(ask("apply", plan=plan))
