"""`trueup pull`: fetch an image; bars for a person, plain lines for a pipe."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Iterable
from typing import Any

import click

from agent.cli.options import chosen
from runtime.errors import TrueupError

_ENDS = ("Already exists", "Pull complete", "Layer already exists", "Mounted from", "Pushed")


@click.command("pull", epilog="Example: trueup pull docker.io/library/nginx:alpine")
@click.argument("references", nargs=-1, required=True, metavar="IMAGE…")
@click.option("--platform", default="", metavar="OS/ARCH", help="Default: this machine's.")
@click.option("-q", "--quiet", is_flag=True, help="Print the result only.")
@click.option("--username", default="", help="For the registry; the password is read from stdin.")
def command(references: tuple[str, ...], platform: str, quiet: bool, username: str) -> None:
    """Fetch images from their registries, by tag or digest."""
    client = chosen().client(auth_header(username))
    for image in references:
        name, tag = split_reference(image)
        lines = client.lines("POST", "/images/create", fromImage=name, tag=tag, platform=platform)
        show_transfer(lines, quiet=quiet)
        click.echo(image)


def auth_header(username: str) -> tuple[tuple[str, str], ...]:
    """Credentials for a registry; the password is asked for, or read from a pipe."""
    if not username:
        return ()
    password = click.prompt("Password", hide_input=True) if sys.stdin.isatty() else sys.stdin.readline().rstrip("\n")
    tree = json.dumps({"username": username, "password": password}).encode()
    return (("X-Registry-Auth", base64.urlsafe_b64encode(tree).decode()),)


def split_reference(image: str) -> tuple[str, str]:
    """(name, tag or digest); "latest" where there is none."""
    name, at, digest = image.partition("@")
    if at:
        return name, digest
    bare, colon, tag = image.rpartition(":")
    return (bare, tag) if colon and "/" not in tag else (image, "latest")


def show_transfer(lines: Iterable[dict[str, Any]], *, quiet: bool) -> None:
    """Print progress as it comes. Raises TrueupError when the transfer says it failed."""
    if quiet or not sys.stdout.isatty():
        _plain(lines, quiet)
    else:
        _bars(lines)


def _checked(line: dict[str, Any]) -> dict[str, Any]:
    if "error" in line:
        raise TrueupError(str(line["error"]))
    return line


def _plain(lines: Iterable[dict[str, Any]], quiet: bool) -> None:
    seen: set[tuple[str, str]] = set()
    for line in map(_checked, lines):
        key = (line.get("id", ""), line.get("status") or line.get("stream", "").rstrip())
        if quiet or key in seen or not key[1]:
            continue
        seen.add(key)
        click.echo(f"{key[0]}: {key[1]}" if key[0] else key[1])


def _bars(lines: Iterable[dict[str, Any]]) -> None:
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

    columns = (
        TextColumn("{task.description:14}"),
        TextColumn("{task.fields[status]:20}"),
        BarColumn(),
        DownloadColumn(),
    )
    with Progress(*columns) as bars:
        tasks: dict[str, Any] = {}
        for line in map(_checked, lines):
            name, status = line.get("id", ""), line.get("status") or line.get("stream", "").rstrip()
            detail = line.get("progressDetail")
            if not name or detail is None:
                bars.console.print(f"{name}: {status}" if name else status, highlight=False)
                continue
            if name not in tasks:
                tasks[name] = bars.add_task(name, status=status, total=None)
            total, current = detail.get("total") or None, detail.get("current", 0)
            if status.startswith(_ENDS):  # told without counts
                total = current = bars.tasks[tasks[name]].total or 0
            bars.update(tasks[name], status=status, total=total, completed=current)
