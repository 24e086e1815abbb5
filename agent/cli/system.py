"""`trueup system`: what takes the disk, and what of it may go."""

from __future__ import annotations

import json
from typing import Any

import click

from agent import human
from agent.cli import show
from agent.cli.options import chosen


@click.group("system", epilog="Example: trueup system df -v")
def command() -> None:
    """Show what takes the disk, and make room."""


@command.command("df", epilog="Example: trueup system df -v")
@click.option("-v", "--verbose", is_flag=True, help="List every unpacked layer as well.")
@click.option("--json", "as_json", is_flag=True, help="Print it as the APIs do.")
def df(verbose: bool, as_json: bool) -> None:
    """Show disk use of images, containers, volumes and layers, and how full the disk is."""
    client = chosen().client()
    found, storage = client.get("/v1.44/system/df"), client.get("/trueup/v1/storage")
    if as_json:
        click.echo(json.dumps(found | {"Storage": storage}, indent=2))
        return
    layers = _layers(storage) if verbose else []
    rows = [*_images(found), *_containers(found), *_volumes(found), *layers]
    show.table(("KIND", "NAME", "SIZE", "OWN", "USED BY"), rows)
    unpacked = sum(layer["size"] for layer in storage["layers"])
    share = storage["used"] / max(storage["total"], 1)
    click.echo(
        f"\nlayers: {human.size(unpacked)} unpacked, {human.size(storage['blobs'])} as fetched; "
        f"the disk of {human.size(storage['total'])} is {share:.0%} full"
    )


@command.command("prune", epilog="Example: trueup system prune --all")
@click.option("-a", "--all", "everything", is_flag=True, help="Images with a tag as well, if no container uses them.")
def prune(everything: bool) -> None:
    """Remove images without a tag that no container uses, and what nothing refers to."""
    filters = json.dumps({"dangling": ["false" if everything else "true"]})
    done = chosen().client().post("/images/prune", filters=filters)
    for one in done["ImagesDeleted"] or []:
        for what, name in one.items():
            click.echo(f"{what.lower()}: {name}")
    click.echo(f"freed: {human.size(done['SpaceReclaimed'])}")


def _images(found: dict[str, Any]) -> list[tuple[str, ...]]:
    return [
        (
            "image",
            (image["RepoTags"] or [image["Id"].removeprefix("sha256:")[:12]])[0],
            human.size(image["Size"]),
            human.size(max(image["Size"] - max(image["SharedSize"], 0), 0)),
            human.counted(max(image["Containers"], 0), "container"),
        )
        for image in found["Images"] or []
    ]


def _containers(found: dict[str, Any]) -> list[tuple[str, ...]]:
    return [
        (
            "container",
            container["Names"][0].removeprefix("/"),
            human.size(container.get("SizeRootFs", 0)),
            human.size(container.get("SizeRw", 0)),
            "-",
        )
        for container in found["Containers"] or []
    ]


def _volumes(found: dict[str, Any]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for volume in found["Volumes"] or []:
        usage = volume.get("UsageData") or {"Size": 0, "RefCount": 0}
        size = human.size(max(usage["Size"], 0))
        rows.append(("volume", volume["Name"], size, size, human.counted(max(usage["RefCount"], 0), "container")))
    return rows


def _layers(storage: dict[str, Any]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for layer in sorted(storage["layers"], key=lambda one: -one["size"]):
        size, users = human.size(layer["size"]), layer["images"]
        own = size if len(users) < 2 else human.size(0)
        rows.append(("layer", layer["diff_id"].removeprefix("sha256:")[:12], size, own, f"{len(users)} images"))
    return rows
