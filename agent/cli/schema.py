"""`trueup schema`: the language as JSON Schema, for editors."""

from __future__ import annotations

import json

import click


@click.command(
    "schema",
    epilog="Example: trueup schema > trueup.schema.json",
    short_help="Print the JSON Schema of specs.",
)
def command() -> None:
    """Print the JSON Schema of specs: Compose's, with x-trueup.

    An editor with a YAML language server checks a file that begins with
    `# yaml-language-server: $schema=./trueup.schema.json`.
    """
    from specs.schema import trueup_schema

    click.echo(json.dumps(trueup_schema(), indent=2, ensure_ascii=False))
