"""`trueup push`: send an image to its registry; bars for a person, plain lines for a pipe."""

from __future__ import annotations

import click

from agent.cli.options import chosen
from agent.cli.pull import auth_header, show_transfer, split_reference


@click.command("push", epilog="Example: trueup push registry.example:5000/app:1.2")
@click.argument("references", nargs=-1, required=True, metavar="IMAGE…")
@click.option("-q", "--quiet", is_flag=True, help="Print the result only.")
@click.option("--username", default="", help="For the registry; the password is read from stdin.")
def command(references: tuple[str, ...], quiet: bool, username: str) -> None:
    """Send images to the registries their names say; what is there already is not sent again."""
    client = chosen().client(auth_header(username))
    for image in references:
        name, tag = split_reference(image)
        show_transfer(client.lines("POST", f"/images/{name}/push", tag=tag), quiet=quiet)
        click.echo(image)
