"""Compose files of well-known projects, written after their public documentation, are understood as they are."""

from __future__ import annotations

from pathlib import Path

import pytest

import specs
from agent.desire import desire
from agent.translate import Options
from specs.render import from_compose, to_compose

_PROJECTS = Path(__file__).parents[1] / "golden" / "specs" / "projects"


def _load(name: str) -> specs.Project:
    loaded = specs.load(_PROJECTS / name, {})
    assert loaded.project is not None, "\n".join(str(problem) for problem in loaded.problems)
    return loaded.project


@pytest.mark.parametrize("path", sorted(_PROJECTS.iterdir()), ids=lambda path: path.name)
def test_project_is_understood(path: Path) -> None:
    project = _load(path.name)
    assert project.name == path.name
    assert to_compose(from_compose(to_compose(project))) == to_compose(project)
    wanted = desire(project, Options())
    assert {service.name for service in wanted.services} == set(project.services)


def test_env_files_and_variables_arrive() -> None:
    db = _load("nextcloud").services["db"].environment
    assert db["MYSQL_PASSWORD"] == "correct horse"
    assert db["MYSQL_ROOT_PASSWORD"] == "root$word"
    server = _load("authentik").services["server"].environment
    assert server["AUTHENTIK_SECRET_KEY"] == "s3cret$key"
    assert _load("mastodon").services["web"].environment["SECRET_KEY_BASE"] == "a=b#c"


def test_templates_and_tags_are_applied() -> None:
    monitoring = _load("monitoring").services
    assert monitoring["nodeexporter"].network_mode == "host"
    assert monitoring["nodeexporter"].networks == {}
    assert monitoring["grafana"].logging == monitoring["cadvisor"].logging
    assert monitoring["prometheus"].command[2].endswith("=200h")  # type: ignore[index]


def test_ports_keep_their_address() -> None:
    port = _load("elastic").services["es01"].ports[0]
    assert (port.host_ip, port.published, port.target) == ("127.0.0.1", "9200", 9200)
