"""Options every command takes: which agent is meant. Kept light, since even `--help` imports this.

Commands that only talk to an agent find its socket here without building the whole settings.
"""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click

from runtime.errors import InvalidInput

if TYPE_CHECKING:
    from agent.cli.client import Client
    from agent.settings import Settings

_DEFAULT_FILE = "/etc/trueup/agent.toml"
_DEFAULT_ROOT = "/var/lib/trueup"
_DEFAULT_RUN_DIR = "/run/trueup"
_OPTIONS = (
    (("--root",), {"metavar": "DIR", "help": "Data root of the agent."}),
    (("--run-dir",), {"metavar": "DIR", "help": "Directory for sockets and what a reboot may take."}),
    (("--specs",), {"metavar": "PATH", "multiple": True, "help": "Spec directory or file (repeatable)."}),
    (("--images",), {"metavar": "DIR", "help": "Directory whose image archives are imported."}),
    (("-H", "--host", "hosts"), {"metavar": "ADDRESS", "multiple": True, "help": "API address (repeatable)."}),
    (("--metrics",), {"metavar": "ADDRESS", "help": "Where /metrics answers; empty is nowhere."}),
    (("--config", "config_file"), {"metavar": "FILE", "help": "agent.toml to read."}),
)  # fmt: skip


@dataclass(slots=True)
class Chosen:
    """What was given on the command line; None or () was not."""

    values: dict[str, Any] = field(default_factory=dict)

    @property
    def config_file(self) -> str | None:
        """--config, or TRUEUP_CONFIG."""
        return self.values.get("config_file") or os.environ.get("TRUEUP_CONFIG")

    @property
    def host(self) -> str:
        """Where the agent answers: -H, TRUEUP_HOSTS, agent.toml, or the run directory's socket."""
        hosts = self.values.get("hosts") or tuple(filter(None, os.environ.get("TRUEUP_HOSTS", "").split(",")))
        if hosts:
            return str(hosts[0])
        file = self._file()
        if file.get("hosts") and "run_dir" not in self.values:
            return str(file["hosts"][0])
        run_dir = self.values.get("run_dir") or os.environ.get("TRUEUP_RUN_DIR") or file.get("run_dir")
        return f"unix://{run_dir or _DEFAULT_RUN_DIR}/docker.sock"

    @property
    def root(self) -> str:
        """The agent's data root: --root, TRUEUP_ROOT, agent.toml, or the default."""
        found = self.values.get("root") or os.environ.get("TRUEUP_ROOT") or self._file().get("root")
        return str(found or _DEFAULT_ROOT)

    def client(self, headers: tuple[tuple[str, str], ...] = ()) -> Client:
        """A client of the agent that is meant."""
        from agent.cli.client import Client

        return Client(self.host, root=self.root, headers=headers)

    def settings(self, **more: Any) -> Settings:
        """The whole settings. Raises InvalidInput."""
        from agent.settings import load_settings

        flags = {key: value for key, value in self.values.items() if key != "config_file"} | more
        for key in ("root", "run_dir", "images"):
            if flags.get(key):
                flags[key] = os.path.abspath(flags[key])
        if flags.get("specs"):
            flags["specs"] = tuple(os.path.abspath(path) for path in flags["specs"])
        loaded = load_settings(self.config_file, flags)
        if loaded.run_dir != _DEFAULT_RUN_DIR and "hosts" not in loaded.model_fields_set:
            loaded = loaded.model_copy(update={"hosts": (f"unix://{loaded.run_dir}/docker.sock",)})
        return loaded

    def _file(self) -> dict[str, Any]:
        path = self.config_file or _DEFAULT_FILE
        try:
            with open(path, "rb") as file:
                return tomllib.load(file)
        except FileNotFoundError:
            if self.config_file:
                raise InvalidInput(f"cannot read {path}: no such file") from None
            return {}
        except (OSError, tomllib.TOMLDecodeError) as e:
            raise InvalidInput(f"cannot read {path}: {e}") from e


def chosen() -> Chosen:
    """The global options of the command at work."""
    return click.get_current_context().find_root().ensure_object(Chosen)


def add_global_options(command: click.Command) -> click.Command:
    """Let `command` take the global options as well; the one nearest to its name wins."""
    if any(parameter.name == "config_file" for parameter in command.params):
        return command
    own = {name for parameter in command.params for name in parameter.opts}
    for names, extra in _OPTIONS:
        free = [name for name in names if name not in own]
        command.params.append(click.Option(free, expose_value=False, callback=_keep, **extra))
    return command


def _keep(ctx: click.Context, parameter: click.Parameter, value: Any) -> None:
    if value not in (None, ()) and parameter.name:
        ctx.find_root().ensure_object(Chosen).values[parameter.name] = value
