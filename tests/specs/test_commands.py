"""The commands that need no agent: validate, config, schema."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

import specs
from agent.cli import config, schema, validate


def _run(command: object, *args: str) -> Result:
    return CliRunner().invoke(command, list(args))  # type: ignore[arg-type]


def test_validate_prints_every_problem_and_fails(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("services:\n  web: {imag: i, ports: [x]}\n")
    (tmp_path / "b.toml").write_text("[services.web]\nimage = 'i'\nprots = []\n")
    (tmp_path / "good.yaml").write_text("services: {web: {image: i}}\n")
    result = _run(validate.command, str(tmp_path))
    assert result.exit_code == 1
    lines = result.stderr.splitlines()
    assert [line.partition(": cannot")[0] for line in lines] == [
        f"{tmp_path}/a.yaml:2:3",
        f"{tmp_path}/a.yaml:2:9",
        f"{tmp_path}/a.yaml:2:26",
        f"{tmp_path}/b.toml:3:1",
    ]
    assert f"{tmp_path}/good.yaml: project good, 1 service" in result.stdout


def test_files_are_named_from_where_the_person_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.yaml").write_text("services: {web: {imag: i}}\n")
    monkeypatch.chdir(tmp_path)
    assert _run(validate.command, "a.yaml").stderr.startswith("a.yaml:1:")
    assert _run(config.command, ".").stderr.startswith("a.yaml:1:")


def test_validate_is_content_with_good_specs(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("services: {web: {image: i}, db: {image: i}}\n")
    result = _run(validate.command, "--quiet", str(tmp_path / "a.yaml"))
    assert (result.exit_code, result.output) == (0, "")


def test_validate_refuses_one_name_for_two_projects(tmp_path: Path) -> None:
    for name in ("a.yaml", "b.yaml"):
        (tmp_path / name).write_text("name: same\nservices: {web: {image: i}}\n")
    result = _run(validate.command, str(tmp_path))
    assert result.exit_code == 1
    assert f"{tmp_path}/a.yaml is called so" in result.stderr


def test_validate_of_an_empty_directory_says_so(tmp_path: Path) -> None:
    result = _run(validate.command, str(tmp_path))
    assert result.exit_code == 1
    assert "cannot find a spec" in result.stderr


def test_config_reads_back_in_both_formats(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text('[services.web]\nimage = "i"\ncommand = "echo $$HOME 1e3"\nports = ["8080:80"]\n')
    original = specs.load(path, {}).project
    assert original is not None
    for form, parse in (("json", json.loads), ("yaml", yaml.safe_load)):
        result = _run(config.command, "--format", form, str(path))
        assert result.exit_code == 0
        assert parse(result.stdout)["services"]["web"]["ports"][0]["published"] == "8080"
        again = tmp_path / f"again.{form}.yaml"
        again.write_text(result.stdout)
        project = specs.load(again, {}).project
        assert project is not None
        assert project.model_dump() == original.model_dump()


def test_config_of_a_broken_project_prints_problems_only(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("services: {web: {imag: i}}\n")
    result = _run(config.command, str(tmp_path / "a.yaml"))
    assert result.exit_code == 1
    assert result.stdout == ""
    assert "cannot use" in result.stderr


def test_schema_is_json() -> None:
    result = _run(schema.command)
    assert result.exit_code == 0
    assert json.loads(result.stdout)["title"].startswith("trueup")
