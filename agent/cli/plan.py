"""`trueup plan`: what the agent would do, each step with its cause; nothing is touched."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import click

from agent.cli.options import chosen


@click.command("plan", epilog="Example: trueup plan ./examples/02-compose || echo 'there is something to do'")
@click.argument("paths", nargs=-1, metavar="[PATH…]")
@click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON.")
def command(paths: tuple[str, ...], as_json: bool) -> None:
    """Show what would be done for the agent's specs, or for the spec files PATH, and why.

    Exits with 0 when there is nothing to do, 2 when there is, 1 when a spec is wrong.
    """
    tree = find_plan([os.path.abspath(path) for path in paths])
    if as_json:
        click.echo(json.dumps(tree, indent=2))
    else:
        print_plan(tree)
    sys.exit(1 if tree["problems"] else 2 if tree["steps"] else 0)


def find_plan(paths: list[str]) -> dict[str, Any]:
    """The running agent's plan, or one made here when none runs."""
    client = chosen().client()
    if client.answers():
        tree: dict[str, Any] = client.post("/trueup/v1/plan", {"paths": paths or None})
        return tree
    from agent.cli.local import plan_here

    return plan_here(chosen().settings(), paths)


def print_plan(tree: dict[str, Any]) -> None:
    """Changes, then numbered steps with their causes, then what waits."""
    for p in tree["problems"]:
        click.echo(f"{p['path']}:{p['line']}:{p['column']}: {p['message']}", err=True)
    for change in tree["changes"]:
        click.echo(f"  ~ {change_text(change)}")
    for number, step in enumerate(tree["steps"], 1):
        click.echo(f"{number:3}. {step['text']} — {step['cause']}")
    for wait in tree["waiting"]:
        click.echo(f"  … {wait}")
    for notice in tree["notices"]:
        click.echo(f"  ! {notice}")
    for gap in tree["downtime"]:
        click.echo(f"  ↓ {gap}")
    if not tree["steps"] and not tree["problems"]:
        click.echo("nothing to do")
    elif tree["steps"]:
        click.echo(f"plan {tree['id']}: {len(tree['steps'])} steps")


def change_text(change: dict[str, Any]) -> str:
    """One field that differs, as `Change` prints itself."""
    values = f": {change['old'] or '(none)'} → {change['new'] or '(none)'}" if change["old"] or change["new"] else ""
    return f"{change['target']} {change['field']}{values} [{change['cls']}] {change['reason']}"
