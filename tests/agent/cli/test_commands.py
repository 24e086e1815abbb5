"""Every command with the options all of them take: no two parameters share a name, --help says nothing else."""

from __future__ import annotations

import warnings

import click
import pytest
from click.testing import CliRunner

from agent.cli import COMMANDS, main
from agent.cli.ps import _row
from agent.cli.status import port_text


@pytest.mark.parametrize("name", COMMANDS)
def test_help_is_clean(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        shown = CliRunner().invoke(main, [name, "--help"])
    assert shown.exit_code == 0, shown.output
    assert "Example: " in shown.output


@pytest.mark.parametrize("name", COMMANDS)
def test_parameters_have_names_of_their_own(name: str) -> None:
    command = main.get_command(click.Context(main), name)
    assert command is not None
    names = [parameter.name for parameter in command.params]
    assert sorted(names) == sorted(set(names))


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("127.0.0.1", "127.0.0.1:80→8080/tcp"),
        ("0.0.0.0", "80→8080/tcp"),
        ("::", "80→8080/tcp"),
        ("::1", "[::1]:80→8080/tcp"),
    ],
)
def test_ps_says_on_which_address_a_port_is_published(address: str, told: str) -> None:
    port = {"IP": address, "PublicPort": 80, "PrivatePort": 8080, "Type": "tcp"}
    seen = {"Labels": {}, "Ports": [port], "Names": ["/a"], "Id": "0" * 64, "Image": "i", "Status": "Up"}
    assert _row(seen)[-1] == told
    shown = {"host_ip": address if ":80→" in told else "", "host_port": 80, "container_port": 8080, "protocol": "tcp"}
    assert port_text(shown) == told
