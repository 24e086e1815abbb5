"""The command line, `trueup`: each command a module, imported only when it is asked for.

Global options (which agent: --root, --run-dir, -H …) are taken before and after a command's name.
Whatever goes wrong is one line, `trueup: cannot …`, with what to do; a traceback is our bug.
"""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from typing import Any, NoReturn

import click

from agent.cli.options import add_global_options
from runtime.errors import TrueupError

# command: (module, its one line of help), in the order of a person's day
COMMANDS = {
    "agent": ("agent", "Run the agent: keep this host true to its specs."),
    "validate": ("validate", "Check specs; exit 1 with every problem as file:line:col."),
    "config": ("config", "Print a project in its resolved form."),
    "schema": ("schema", "Print the JSON Schema of specs."),
    "plan": ("plan", "Show what would be done and why; exit 2 when there is something."),
    "apply": ("apply", "Carry out a plan that was shown."),
    "approve": ("approve", "Let through what waits for a person."),
    "status": ("status", "Show projects and services, their state, and why."),
    "get": ("get", "Print the whole state of a service as YAML or JSON."),
    "why": ("why", "Say what keeps a service from being ready."),
    "history": ("history", "List the revisions of a service."),
    "ps": ("ps", "List containers."),
    "logs": ("logs", "Show the output of a service."),
    "exec": ("exec", "Run a command in a service's container."),
    "events": ("events", "Show what was done and what happens."),
    "up": ("up", "Let a project run that was taken down."),
    "down": ("down", "Take a project's containers and networks away."),
    "suspend": ("suspend", "Leave a project as it is for a while."),
    "resume": ("resume", "End a suspension."),
    "rollback": ("rollback", "Go back to an earlier revision of a service."),
    "promote": ("promote", "Let a canary that waits go on."),
    "images": ("images", "List images."),
    "pull": ("pull", "Fetch an image from a registry."),
    "push": ("push", "Send an image to its registry."),
    "load": ("load", "Import an image archive."),
    "save": ("save", "Write images to an archive."),
    "import": ("import_image", "Make an image from the tar of a root file system."),
    "system": ("system", "Show what takes the disk, and make room."),
    "doctor": ("doctor", "Check what this machine can do, and what to install."),
}


class Commands(click.Group):
    """A group that knows its commands' names and help without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names, in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command's module."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"agent.cli.{COMMANDS[cmd_name][0]}")
        command: click.Command = module.command
        return add_global_options(command)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands in --help."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command the first word names, or an error that names the nearest."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            near = difflib.get_close_matches(args[0], COMMANDS, n=1)
            raise click.UsageError(f"no such command '{args[0]}'" + (f", did you mean {near[0]}?" if near else ""), ctx)
        return super().resolve_command(ctx, args)

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run, and end with one line for whatever went wrong."""
        try:
            sys.exit(super().main(*args, **{**extra, "prog_name": "trueup", "standalone_mode": False}) or 0)
        except TrueupError as e:
            _end(str(e))
        except click.UsageError as e:
            _end(_usage(e))
        except click.ClickException as e:
            _end(e.format_message())
        except (click.Abort, KeyboardInterrupt):
            sys.exit(130)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # so that the exit's flush finds somewhere to go
            sys.exit(141)


def _end(text: str) -> NoReturn:
    click.echo(f"trueup: {text}", err=True)
    sys.exit(1)


def _usage(error: click.UsageError) -> str:
    """click's complaint about words and options in the form of all our errors."""
    command = error.ctx.command_path if error.ctx else "trueup"
    text = error.format_message().rstrip(".").replace("\n", " ")
    return f"cannot run `{command}`: {text[:1].lower()}{text[1:]} (see {command} --help)"


@click.command(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="Example: trueup agent --specs ./examples/01-hello -H unix:///tmp/t.sock",
)
@click.version_option(package_name="trueup", prog_name="trueup")
def main() -> None:
    """Keep one Linux host's containers true to a directory of Compose files."""


add_global_options(main)
