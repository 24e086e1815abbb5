"""`trueup import`: the tar of a root file system becomes an image."""

from __future__ import annotations

from typing import IO

import click

from agent.cli.options import chosen
from agent.cli.pull import show_transfer, split_reference


@click.command("import", epilog="Example: trueup import -c 'CMD [\"/bin/sh\"]' rootfs.tar.gz mini:1")
@click.argument("archive", type=click.File("rb"), metavar="FILE")
@click.argument("name", default="", required=False, metavar="[IMAGE]")
@click.option("-c", "--change", "changes", multiple=True, metavar="LINE", help="A Dockerfile line: CMD, ENV, USER, …")
@click.option("-m", "--message", default="", help="What its history says.")
@click.option("--platform", default="", metavar="OS/ARCH", help="Default: this machine's.")
def command(archive: IO[bytes], name: str, changes: tuple[str, ...], message: str, platform: str) -> None:
    """Make an image of one layer from a tar, plain, gzip or zstd; "-" is stdin. Prints its id."""
    repository, tag = split_reference(name) if name else ("", "")
    lines = chosen().client().upload(
        "/images/create", archive, fromSrc="-", repo=repository, tag=tag, changes=list(changes), message=message,
        platform=platform,
    )  # fmt: skip
    show_transfer(lines, quiet=False)
