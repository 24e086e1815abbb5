"""`trueup images`: what is in the store."""

from __future__ import annotations

import json
from typing import Any

import click

from agent import human
from agent.cli import show
from agent.cli.options import chosen


@click.command("images", epilog="Example: trueup images")
@click.option("--json", "as_json", is_flag=True, help="Print them as the Engine API does.")
def command(as_json: bool) -> None:
    """List images with tag, id, size and how many containers use them."""
    images = chosen().client().get("/images/json")
    if as_json:
        click.echo(json.dumps(images, indent=2))
        return
    show.table(("IMAGE", "ID", "CREATED", "SIZE", "CONTAINERS"), [row for image in images for row in _rows(image)])


def _rows(image: dict[str, Any]) -> list[tuple[str, ...]]:
    names = image["RepoTags"] or [d.replace("@", " @") for d in image["RepoDigests"]] or ["<none>"]
    rest = (
        image["Id"].removeprefix("sha256:")[:12],
        f"{show.ago(image['Created'])} ago" if image["Created"] else "-",
        human.size(image["Size"]),
        str(image["Containers"]),
    )
    return [(name, *rest) for name in names]
