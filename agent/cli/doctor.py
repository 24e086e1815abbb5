"""`trueup doctor`: what this machine can do, what is missing, and the command that installs it."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

import click

from agent.cli.checks import Check, all_checks
from agent.cli.options import chosen

_MARKS = {"ok": ("✓", "green"), "note": ("•", "yellow"), "missing": ("✗", "red")}


@click.command("doctor", epilog="Example: sudo trueup doctor")
@click.option("--json", "as_json", is_flag=True, help="Print the checks as JSON.")
def command(as_json: bool) -> None:
    """Check rights, kernel, cgroups, overlay, nftables, user namespaces and disk.

    Exits with 1 when something is missing that containers need.
    """
    checks = all_checks(chosen().settings())
    if as_json:
        click.echo(json.dumps([asdict(check) for check in checks], indent=2))
    else:
        for check in checks:
            print_check(check)
    sys.exit(1 if any(check.state == "missing" for check in checks) else 0)


def print_check(check: Check) -> None:
    """One line, and what to do below it."""
    mark, colour = _MARKS[check.state]
    click.echo(f"{click.style(mark, fg=colour)} {check.name}: {check.found}")
    if check.remedy:
        click.echo(f"    {check.remedy}")
