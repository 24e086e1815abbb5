"""`trueup agent`: the long-running process, in the foreground; it ends by signal and leaves containers running."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from typing import TYPE_CHECKING, Any, NoReturn

import click

from agent.cli.options import chosen
from agent.say import in_json

if TYPE_CHECKING:
    from agent.control import Control
    from agent.settings import Settings

_LEVELS = ["debug", "info", "warning", "error"]


@click.command("agent", epilog="Example: trueup agent --specs ./examples/01-hello --images ./images")
@click.option(
    "--runtime", type=click.Choice(["native", "memory"]), default=None, help="memory plays, and runs nothing."
)
@click.option("--mode", type=click.Choice(["auto", "manual"]), default=None, help="manual: plans wait for approval.")
@click.option("--log-level", type=click.Choice(_LEVELS), default=None, help="Default: info.")
@click.option("--log-format", type=click.Choice(["auto", "text", "json"]), default=None, help="Default: by terminal.")
def command(**flags: Any) -> None:
    """Keep this host's containers true to the spec directories, and serve the API and /metrics.

    SIGTERM and Ctrl-C end the agent; its containers run on and are taken over by the next one.
    """
    settings = chosen().settings(**flags)
    logging.basicConfig(level=settings.log_level.upper(), format="%(levelname)s %(name)s: %(message)s")
    from agent.app import run

    with asyncio.Runner() as runner:
        runner.run(run(settings, lambda control: _announce(control, settings)))
        _leave()


def _leave() -> NoReturn:
    """End now: a thread that waits for a registry or a disk shall not hold up who ends the agent, nor is it missed."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _announce(control: Control, settings: Settings) -> None:
    """Say where everything is, and later what runs; a person reads this, so only to a terminal or as text."""
    if in_json(settings):
        return
    print(f"trueup {control.status().version} keeps {', '.join(settings.specs)}", flush=True)
    for host in settings.hosts:
        print(f"the Docker Engine API is at {host}", flush=True)
    if settings.metrics:
        print(f"metrics are at http://{settings.metrics}/metrics", flush=True)
    files = [file.path for file in control.status().files]
    if files and sys.stdout.isatty():
        print(f"edit {files[0]} and watch; Ctrl-C ends the agent and leaves the containers running", flush=True)
