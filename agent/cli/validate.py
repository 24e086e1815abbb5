"""`trueup validate`: everything that is wrong with specs, before any agent sees them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import replace

import click

import specs
from agent import human


def sources(paths: tuple[str, ...]) -> Iterator[str]:
    """Projects at the paths: a directory without a compose file stands for the specs in it."""
    for path in paths:
        if not os.path.exists(path):
            raise click.ClickException(f"cannot read {path}: there is no such file or directory")
        found = specs.discover(path) if os.path.isdir(path) else [path]
        if not found:
            raise click.ClickException(f"cannot find a spec in {path}: no *.yaml, *.yml or *.toml, no compose file")
        yield from found


def shown(problem: specs.Problem) -> str:
    """The problem, its file named from where the person stands."""
    here = os.getcwd().rstrip("/") + "/"
    return str(replace(problem, file=problem.file.removeprefix(here)))


@click.command(
    "validate",
    epilog="Example: trueup validate /etc/trueup/specs",
    short_help="Check specs; exit 1 with every problem as file:line:col.",
)
@click.argument("paths", nargs=-1, required=True, type=click.Path(), metavar="PATH…")
@click.option("--profile", "profiles", multiple=True, help="Also check services of this profile (repeatable).")
@click.option("-q", "--quiet", is_flag=True, help="Print problems only.")
def command(paths: tuple[str, ...], profiles: tuple[str, ...], quiet: bool) -> None:
    """Check spec files and directories without touching anything.

    Prints one line per problem, `file:line:col: what`, and exits with 1 if there is any.
    """
    names: dict[str, str] = {}
    failed = False
    for path in sources(paths):
        loaded = specs.load(path, os.environ, profiles=profiles)
        problems = [shown(problem) for problem in loaded.problems]
        if loaded.project is not None:
            first = names.setdefault(loaded.project.name, path)
            if first != path:
                problems.append(f'{path}:1:1: cannot name the project "{loaded.project.name}": {first} is called so')
        for problem in problems:
            click.echo(problem, err=True)
        failed = failed or bool(problems)
        if not quiet:
            for notice in loaded.notices:
                click.echo(f"note: {shown(notice)}", err=True)
            if loaded.project is not None and not problems:
                click.echo(
                    f"{path}: project {loaded.project.name}, {human.counted(len(loaded.project.services), 'service')}"
                )
    sys.exit(1 if failed else 0)
