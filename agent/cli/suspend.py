"""`trueup suspend`: hands off a project, for a while or until further notice."""

from __future__ import annotations

import time

import click

from agent.cli.intents import ask


@click.command("suspend", epilog="Example: trueup suspend shop --for 1h30m --reason 'moving the database'")
@click.argument("project")
@click.option("--reason", default="", help="Shown in status.")
@click.option("--for", "duration", default="", metavar="DURATION", help="Default: until `trueup resume`.")
def command(project: str, reason: str, duration: str) -> None:
    """Leave PROJECT as it is: nothing is healed, updated or removed."""
    until = time.time() + _seconds(duration) if duration else 0.0
    ask("suspend", target=project, reason=reason, until=until)
    click.echo(f"{project} is left as it is")


def _seconds(text: str) -> float:
    """Of "90", "1h30m", "2d"."""
    from specs.types import parse_duration

    try:
        return float(text) if text.replace(".", "", 1).isdigit() else parse_duration(text)
    except ValueError as e:
        raise click.UsageError(f"cannot use {text!r} as a duration: {e}") from e
