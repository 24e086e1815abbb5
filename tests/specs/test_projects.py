"""Generated projects: what is rendered reads back, in both languages; what is broken is answered."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

import specs
from specs.render import from_compose, to_compose, to_yaml

_NAME = st.from_regex(r"[a-z][a-z0-9]{0,6}", fullmatch=True)
_TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"], max_codepoint=0xFFFD), max_size=12)
_DURATION = st.sampled_from(["10s", "1m30s", "250ms", "2h", "1d"])
_SIZE = st.one_of(st.sampled_from(["64m", "1.5g", "10kb"]), st.integers(1, 2**40))
_TRUTH = st.one_of(st.booleans(), st.sampled_from(["true", "no"]))
_PAIRS = st.one_of(
    st.dictionaries(_NAME, st.one_of(_TEXT, st.integers(-5, 5), st.booleans()), max_size=3),
    st.lists(_NAME.map(lambda name: f"{name}=x"), max_size=3, unique=True),
)
_WORDS = st.one_of(st.lists(_TEXT, max_size=3), st.sampled_from(["run --fast", "sh -c 'echo hi'"]))
_PORT = st.one_of(
    st.integers(1, 65535).map(str),
    st.integers(1, 65535),
    st.fixed_dictionaries({"target": st.integers(1, 65535)}, optional={"protocol": st.sampled_from(["tcp", "udp"])}),
)
_MOUNT = st.sampled_from(["/a", "data:/data", "./x:/x:ro", "/abs:/abs:rslave"])
_SERVICE = st.fixed_dictionaries(
    {"image": _NAME},
    optional={
        "command": _WORDS,
        "entrypoint": _WORDS,
        "environment": _PAIRS,
        "labels": _PAIRS,
        "annotations": _PAIRS,
        "ports": st.lists(_PORT, max_size=3),
        "volumes": st.lists(_MOUNT, max_size=3, unique=True),
        "stop_grace_period": _DURATION,
        "mem_limit": _SIZE,
        "shm_size": _SIZE,
        "read_only": _TRUTH,
        "init": _TRUTH,
        "privileged": _TRUTH,
        "cap_add": st.lists(st.sampled_from(["NET_ADMIN", "CAP_SYS_PTRACE"]), unique=True),
        "ulimits": st.sampled_from([{"nofile": 5}, {"core": {"soft": 0, "hard": "10"}}]),
        "extra_hosts": st.sampled_from([["a:10.0.0.1", "a=::1"], {"b": "host-gateway"}]),
        "healthcheck": st.fixed_dictionaries(
            {"test": st.sampled_from(["true", ["CMD", "true"], ["NONE"]])}, optional={"interval": _DURATION}
        ),
        "restart": st.sampled_from(["no", "always", "on-failure:3"]),
        "deploy": st.fixed_dictionaries({}, optional={"replicas": st.integers(0, 3)}),
        "logging": st.just({"options": {"max-size": "1m", "max-file": 3}}),
        "tmpfs": st.sampled_from(["/run", ["/tmp:size=1m"]]),
        "dns": st.sampled_from(["1.1.1.1", ["8.8.8.8", "::1"]]),
        "configs": st.sampled_from([["conf"], [{"source": "conf", "target": "/c", "mode": 0o440}]]),
        "x-trueup": st.sampled_from(
            [{"drift": "off"}, {"on_change": {"exec": ["a"]}}, {"after": ["p/s"]}, {"userns": "host"}]
        ),
    },
)
_PROJECT = st.dictionaries(_NAME, _SERVICE, min_size=1, max_size=3).map(
    lambda services: {
        "name": "generated",
        "services": services,
        "volumes": {"data": None},
        "configs": {"conf": {"content": "$$1"}},
    }
)


def _escaped(value: Any) -> Any:
    """A literal document: every dollar sign doubled."""
    return json.loads(json.dumps(value).replace("$$1", "1").replace("$", "$$"))


def _load(tmp_path: Path, name: str, text: str) -> specs.Loaded:
    path = tmp_path / name
    path.write_text(text)
    return specs.load(path, {})


def _same(one: specs.Project, other: specs.Project) -> bool:
    return one.model_dump() == other.model_dump()


@given(_PROJECT)
def test_rendered_projects_read_back(tmp_path_factory: Any, document: dict[str, Any]) -> None:
    directory = tmp_path_factory.mktemp("generated")
    loaded = _load(directory, "a.yaml", to_yaml(_escaped(document)))
    assert loaded.project is not None, loaded.problems
    rendered = to_compose(loaded.project, escape=True)
    for name, text in (("b.yaml", to_yaml(rendered)), ("c.yaml", json.dumps(rendered))):
        again = _load(directory, name, text)
        assert again.project is not None, again.problems
        assert _same(again.project, loaded.project)
    assert to_compose(from_compose(to_compose(loaded.project))) == to_compose(loaded.project)


_JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    _TEXT,
    st.lists(_TEXT, max_size=2),
    st.dictionaries(_NAME, _TEXT),
)


def _paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for key, child in children for found in _paths(child, (*path, key)))]


@given(_PROJECT, st.data())
def test_broken_projects_are_answered(tmp_path_factory: Any, document: dict[str, Any], data: st.DataObject) -> None:
    """Put junk anywhere: the loader says where, or takes it, and never raises."""
    document = _escaped(document)
    for _ in range(data.draw(st.integers(1, 3))):
        path = data.draw(st.sampled_from([path for path in _paths(document) if path]))
        holder: Any = document
        for step in path[:-1]:
            holder = holder[step]
        if isinstance(holder, dict) and data.draw(st.booleans()):
            holder[data.draw(_NAME)] = holder.pop(path[-1])
        else:
            holder[path[-1]] = data.draw(_JUNK)
    loaded = _load(tmp_path_factory.mktemp("broken"), "a.yaml", to_yaml(document))
    assert (loaded.project is None) == bool(loaded.problems)
    assert all(problem.message.startswith("cannot ") and problem.line >= 1 for problem in loaded.problems)
