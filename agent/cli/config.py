"""`trueup config`: a project as it is understood, every short form spelled out."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import click

import specs
from agent.cli.validate import shown, sources
from specs.render import to_compose, to_yaml


@click.command(
    "config",
    epilog="Example: trueup config examples/02-compose --format json",
    short_help="Print a project in its resolved form.",
)
@click.argument("paths", nargs=-1, required=True, type=click.Path(), metavar="PATH…")
@click.option("--format", "form", type=click.Choice(["yaml", "json"]), default="yaml", help="Default: yaml.")
@click.option("--profile", "profiles", multiple=True, help="Show services of this profile too (repeatable).")
def command(paths: tuple[str, ...], form: str, profiles: tuple[str, ...]) -> None:
    """Print projects with files merged, variables filled in and short forms spelled out.

    The output reads back to the same project. Several files given as paths are separate projects.
    """
    projects: list[dict[str, Any]] = []
    failed = False
    for path in sources(paths):
        loaded = specs.load(path, os.environ, profiles=profiles)
        for problem in loaded.problems:
            click.echo(shown(problem), err=True)
            failed = True
        if loaded.project is not None:
            projects.append(to_compose(loaded.project, escape=True))
    if failed:
        sys.exit(1)
    if form == "json":
        click.echo(json.dumps(projects[0] if len(projects) == 1 else projects, indent=2, ensure_ascii=False))
        return
    click.echo("---\n".join(to_yaml(project) for project in projects), nl=False)
