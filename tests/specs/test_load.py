"""What is a spec, which files a project depends on, and that loading leaves the world as it was."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from pydantic import ValidationError

import specs
from specs.source import is_spec_name, normalise

_HELLO = "services: {web: {image: i}}\n"


def _tree(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def _problem(loaded: specs.Loaded) -> str:
    assert loaded.project is None
    return "\n".join(str(problem) for problem in loaded.problems)


def test_discover_takes_specs_and_project_directories(tmp_path: Path) -> None:
    wanted = ["a.yaml", "b.yml", "c.toml", "app/compose.yaml", "old/docker-compose.yml"]
    others = [".hidden.yaml", "d.yaml~", "e.yaml.swp", "#f.yaml#", "g.txt", "h.bak", "i.yaml.orig", ".git/compose.yaml"]
    others += ["plain/a.yaml", "app/more.yaml", "j.yaml.tmp", "sub~/compose.yaml"]
    _tree(tmp_path, dict.fromkeys(wanted + others, _HELLO))
    found = [os.path.relpath(path, tmp_path) for path in specs.discover(tmp_path)]
    assert found == ["a.yaml", "app", "b.yml", "c.toml", "old"]


def test_discover_of_a_project_directory_is_that_project(tmp_path: Path) -> None:
    _tree(tmp_path, {"compose.toml": "", "other.yaml": _HELLO})
    assert specs.discover(tmp_path) == [str(tmp_path)]


def test_discover_does_not_take_an_error_for_emptiness(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        specs.discover(tmp_path / "gone")


@pytest.mark.parametrize(
    ("name", "spec"), [("a.yaml", True), ("4913", False), ("a.yaml.part", False), ("a.json", False)]
)
def test_names_of_specs(name: str, spec: bool) -> None:
    assert is_spec_name(name) is spec


@pytest.mark.parametrize(
    ("text", "name"), [("My App.v2", "myappv2"), ("_x-", "x-"), ("ÄÖ", "ao"), ("日本", ""), ("a_b-c", "a_b-c")]
)
def test_names_of_projects(text: str, name: str) -> None:
    assert normalise(text) == name


def test_every_file_that_matters_is_listed(tmp_path: Path) -> None:
    files = {
        "app/compose.yaml": """
include: [part/part.yaml]
services:
  web:
    image: i
    extends: {file: base.yaml, service: base}
    env_file: [one.env, {path: missing.env, required: false}]
    label_file: labels
    configs: [c]
    secrets: [s]
configs: {c: {file: c.txt}}
secrets: {s: {file: s.txt}}
""",
        "app/compose.override.yaml": "services: {web: {hostname: h}}\n",
        "app/part/part.yaml": "services: {db: {image: i}}\n",
        "app/base.yaml": "services: {base: {restart: always}}\n",
        "app/one.env": "A=1\n",
        "app/labels": "L=1\n",
        "app/c.txt": "config",
        "app/s.txt": "secret",
    }
    _tree(tmp_path, files)
    loaded = specs.load(tmp_path / "app", {})
    assert loaded.project is not None, loaded.problems
    assert loaded.project.files == loaded.files
    known = {os.path.relpath(file.path, tmp_path): file for file in loaded.files}
    missing = {"app/.env", "app/part/.env", "app/missing.env"}
    assert set(known) == set(files) | missing
    assert all(known[name].digest == "" for name in missing)
    for name, text in files.items():
        assert known[name].size == len(text)
        assert known[name].digest == "sha256:" + hashlib.sha256(text.encode()).hexdigest()
    assert loaded.project.configs["c"].data is not None
    assert loaded.project.configs["c"].data.get_secret_value() == b"config"


def test_files_are_listed_when_the_project_is_broken(tmp_path: Path) -> None:
    _tree(tmp_path, {"a.yaml": "services: {web: {env_file: x.env}}", "x.env": "A=1"})
    loaded = specs.load(tmp_path / "a.yaml", {})
    assert loaded.project is None
    assert {os.path.basename(file.path) for file in loaded.files} == {"a.yaml", "x.env", ".env"}


def test_secrets_do_not_show(tmp_path: Path) -> None:
    _tree(tmp_path, {"a.yaml": "services: {w: {image: i, secrets: [s]}}\nsecrets: {s: {environment: S}}\n"})
    loaded = specs.load(tmp_path / "a.yaml", {"S": "hunter2"})
    assert loaded.project is not None
    shown = repr(loaded) + loaded.project.model_dump_json() + str(loaded.project.secrets)
    assert "hunter2" not in shown
    assert loaded.project.secrets["s"].data is not None
    assert loaded.project.secrets["s"].data.get_secret_value() == b"hunter2"


def test_same_input_gives_the_same_project(tmp_path: Path) -> None:
    _tree(tmp_path, {"a.yaml": "services: {b: {image: $X}, a: {image: i, environment: {B: '1', A: '2'}}}\n"})
    one, two = (specs.load(tmp_path / "a.yaml", {"X": "i"}) for _ in range(2))
    assert one == two
    assert one.project is not None
    assert one.project.model_dump_json() == two.project.model_dump_json()  # type: ignore[union-attr]


def test_loading_changes_nothing(tmp_path: Path) -> None:
    _tree(tmp_path, {"app/compose.yaml": _HELLO + "volumes: {d: {}}\n", "app/.env": "A=1"})
    before = sorted((str(path), path.stat().st_mtime_ns) for path in tmp_path.rglob("*"))
    environment = {"HOME": "/root"}
    specs.load(tmp_path / "app", environment)
    assert sorted((str(path), path.stat().st_mtime_ns) for path in tmp_path.rglob("*")) == before
    assert environment == {"HOME": "/root"}


def test_the_environment_is_over_the_dot_env(tmp_path: Path) -> None:
    _tree(tmp_path, {"a.yaml": "services: {w: {image: '$A-$B'}}\n", ".env": "A=file\nB=${A}\n"})
    loaded = specs.load(tmp_path / "a.yaml", {"A": "shell"})
    assert loaded.project is not None
    assert loaded.project.services["w"].image == "shell-shell"


def test_profiles_are_active_when_named(tmp_path: Path) -> None:
    text = "services: {a: {image: i}, b: {image: i, profiles: [x]}, c: {image: i, profiles: [y]}}\n"
    _tree(tmp_path, {"a.yaml": text})
    for profiles, names in (((), "a"), (("x",), "ab"), (("*",), "abc")):
        loaded = specs.load(tmp_path / "a.yaml", {}, profiles=profiles)
        assert loaded.project is not None
        assert "".join(sorted(loaded.project.services)) == names


@pytest.mark.parametrize(
    ("files", "path", "text"),
    [
        ({}, "gone.yaml", "cannot read"),
        ({"d/x.txt": ""}, "d", "cannot find compose.yaml"),
        ({"d/compose.yaml": _HELLO, "d/compose.toml": ""}, "d", "cannot choose between"),
        ({"日本.yaml": _HELLO}, "日本.yaml", 'out of "日本.yaml" (add `name:` at the top'),
        ({"a.yaml": ""}, "a.yaml", "it is empty"),
    ],
)
def test_no_project(tmp_path: Path, files: dict[str, str], path: str, text: str) -> None:
    _tree(tmp_path, files)
    assert text in _problem(specs.load(tmp_path / path, {}))


def test_unreadable_things_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "loop.yaml").symlink_to("loop.yaml")
    (tmp_path / "dir.yaml").mkdir()
    assert "not a regular file" in _problem(specs.load(tmp_path / "pipe.yaml", {}))
    assert "symbolic links" in _problem(specs.load(tmp_path / "loop.yaml", {}))
    assert "cannot find compose.yaml" in _problem(specs.load(tmp_path / "dir.yaml", {}))


def test_a_swapped_symlink_is_read_whole(tmp_path: Path) -> None:
    """As Kubernetes writes config maps: `..data` points at a version, files point through it."""
    for version in ("1", "2"):
        _tree(tmp_path, {f"..v{version}/a.yaml": f"services: {{w: {{image: 'i:{version}'}}}}\n"})
    (tmp_path / "..data").symlink_to("..v1")
    (tmp_path / "a.yaml").symlink_to("..data/a.yaml")
    assert specs.discover(tmp_path) == [str(tmp_path / "a.yaml")]
    (tmp_path / "..new").symlink_to("..v2")
    os.replace(tmp_path / "..new", tmp_path / "..data")
    loaded = specs.load(tmp_path / "a.yaml", {})
    assert loaded.project is not None
    assert loaded.project.services["w"].image == "i:2"


def test_utf_16_and_a_byte_order_mark_are_text(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(_HELLO.encode("utf-16"))
    (tmp_path / "b.yaml").write_bytes(b"\xef\xbb\xbf" + _HELLO.encode())
    (tmp_path / "c.yaml").write_bytes(_HELLO.replace("\n", "\r\n").encode())
    for name in "abc":
        assert specs.load(tmp_path / f"{name}.yaml", {}).project is not None


def test_limits_read_the_same_however_they_are_written(tmp_path: Path) -> None:
    deep = "deploy: {resources: {limits: {memory: 64m, cpus: 0.5, pids: 9}, reservations: {memory: 1m}}}"
    flat = "mem_limit: 64m, cpus: '0.5', pids_limit: 9, mem_reservation: 1m"
    _tree(tmp_path, {"a.yaml": f"services: {{a: {{image: i, {deep}}}, b: {{image: i, {flat}}}}}\n"})
    project = specs.load(tmp_path / "a.yaml", {}).project
    assert project is not None
    for service in project.services.values():
        limits = (service.memory_limit, service.cpu_limit, service.process_limit, service.memory_reservation)
        assert limits == (64 * 2**20, 0.5, 9, 2**20)


def test_a_variable_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("services: {a: {image: i, environment: [X], command: [a, $X]}}")
    problems = specs.load(tmp_path / "a.yaml", {"X": "a\udcff"}).problems
    assert len(problems) == 2
    assert {p.message for p in problems} == {"cannot use a text with bytes that are not UTF-8"}


@pytest.mark.parametrize("signal", ["FOO", "0", "65", "001999", "RTMIN+31", "RTMIN-1", "TERM+1", "²"])
def test_a_stop_signal_that_is_none_is_refused(signal: str) -> None:
    with pytest.raises(ValidationError, match="the kernel has no such signal"):
        specs.Service.model_validate({"name": "a", "image": "i", "stop_signal": signal})


@pytest.mark.parametrize("signal", ["term", "SIGRTMIN+3", "RTMAX-1", "9", "64"])
def test_a_stop_signal_has_many_names(signal: str) -> None:
    assert specs.Service.model_validate({"name": "a", "image": "i", "stop_signal": signal}).stop_signal == signal


def test_policies_have_one_reading() -> None:
    def service(**values: object) -> specs.Service:
        return specs.Service.model_validate({"name": "a", "image": "i", **values})

    assert service(restart="on-failure:3").restart_policy == ("on-failure", 3)
    assert service(deploy={"restart_policy": {"condition": "any"}}).restart_policy == ("always", 0)
    assert service().restart_policy == ("no", 0)
    assert service(deploy={"mode": "global", "replicas": 3}).replicas == 1
    assert service(scale=0).replicas == 0
