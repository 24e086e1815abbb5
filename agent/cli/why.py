"""`trueup why`: the chain from a service that is not ready to what blocks it."""

from __future__ import annotations

import click

from agent.cli.options import chosen


@click.command("why", epilog="Example: trueup why shop/web")
@click.argument("service")
def command(service: str) -> None:
    """Say what keeps SERVICE from being ready, outermost cause first."""
    for depth, line in enumerate(chosen().client().get("/trueup/v1/why", service=service)):
        click.echo(f"{'  ' * depth}{line}")
