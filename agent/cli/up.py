"""`trueup up`: end the hold that `trueup down` put on a project."""

from __future__ import annotations

import click

from agent.cli.down import target_of, who
from agent.cli.options import chosen


@click.command("up", epilog="Example: trueup up ./examples/01-hello")
@click.argument("targets", nargs=-1, required=True, metavar="PATH|PROJECT…")
def command(targets: tuple[str, ...]) -> None:
    """Let projects run again that were taken down; without a running agent, from its next start on."""
    client, wanted = chosen().client(), [target_of(target) for target in targets]
    if client.answers():
        for target in wanted:
            client.post("/trueup/v1/up", {"target": target, "by": who()})
    else:
        from agent.cli.local import up_here

        up_here(chosen().settings(), wanted, who())
    for target in targets:
        click.echo(f"{target} may run")
