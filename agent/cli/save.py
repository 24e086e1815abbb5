"""`trueup save`: images as one archive, for `trueup load`, `docker load`, `podman load` and OCI tools."""

from __future__ import annotations

import os
import sys

import click

from agent.cli.options import chosen
from runtime.errors import InvalidInput, Unavailable


@click.command("save", epilog="Example: trueup save -o app.tar app:1.2 db:3, or: trueup save app | gzip > app.tar.gz")
@click.argument("references", nargs=-1, required=True, metavar="IMAGE…")
@click.option("-o", "--output", default="", metavar="FILE", help="Default: stdout.")
def command(references: tuple[str, ...], output: str) -> None:
    """Write images to an archive; what they share is in it once."""
    if not output and sys.stdout.isatty():
        raise InvalidInput("cannot save to a terminal", hint="use -o FILE, or a pipe")
    pieces = chosen().client().stream("GET", "/images/get", names=list(references))
    first = next(pieces)  # an image that is not there must leave no file
    unfinished = f"{output}.part"
    try:
        with open(unfinished, "wb") if output else open(sys.stdout.fileno(), "wb", closefd=False) as file:
            file.write(first)
            for piece in pieces:
                file.write(piece)
        if output:
            os.replace(unfinished, output)
    except BrokenPipeError:
        raise
    except OSError as e:
        raise Unavailable(f"cannot write {output or 'the archive'}: {e.strerror}") from e
    finally:
        if output and os.path.exists(unfinished):
            os.unlink(unfinished)
