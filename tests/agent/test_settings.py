"""Settings from file, environment and flags; each reaches what it is for, and the reference page lists them all."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.native_options import native_options
from agent.settings import AddressPool, ApiSettings, PruneSettings, RegistryHost, Settings, SpecsPolicy, load_settings
from runtime.errors import InvalidInput
from tests import golden_text

PAGE = Path(__file__).parents[2] / "docs/reference/settings.md"


def test_flags_stand_over_environment_over_file(tmp_path: Path) -> None:
    file = tmp_path / "agent.toml"
    file.write_text('root = "/file"\nmetrics = "127.0.0.1:1"\nresync = 5\n')
    found = load_settings(str(file), {"root": "/flag"}, {"TRUEUP_ROOT": "/env", "TRUEUP_METRICS": "127.0.0.1:2"})
    assert (found.root, found.metrics, found.resync) == ("/flag", "127.0.0.1:2", 5)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("rooot = 1", "did you mean 'root'"),
        ("resync = -1", "cannot use setting resync"),
        ("resync = [", "cannot read"),
        ('[registries."x"]\nmirors = []', "cannot use setting registries.x.mirors"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "agent.toml"
    file.write_text(text)
    with pytest.raises(InvalidInput) as caught:
        load_settings(str(file), env={})
    assert said in str(caught.value)


def test_registries_and_pools_reach_the_runtime(tmp_path: Path) -> None:
    file = tmp_path / "agent.toml"
    file.write_text(
        'address_pools = [{base = "10.9.0.0/16", size = 24}, {base = "fd00:9::/48", size = 64}]\n'
        '[registries."docker.io"]\nmirrors = ["mirror.example:5000"]\n'
    )
    options = native_options(load_settings(str(file), env={}))
    assert options.registries.host("docker.io").mirrors == ("mirror.example:5000",)
    assert [(p.base, p.size) for p in options.pools4 + options.pools6] == [("10.9.0.0/16", 24), ("fd00:9::/48", 64)]


@pytest.mark.parametrize("pool", [{"base": "10.9.0.0/33", "size": 24}, {"base": "10.9.0.0/16", "size": 8}])
def test_a_pool_that_is_none_is_refused(pool: dict[str, object]) -> None:
    with pytest.raises(InvalidInput, match="cannot use address pool"):
        native_options(Settings(address_pools=(pool,)))  # type: ignore[arg-type]


def page() -> str:
    """docs/reference/settings.md, from the models."""
    lines = [
        "# Settings of the agent",
        "",
        "Each is a key of `agent.toml` (`/etc/trueup/agent.toml`, or `--config FILE`); the plain ones are also a",
        "variable `TRUEUP_KEY`. Flags stand over variables, variables over the file. An unknown key is an error.",
        "",
        *_table(Settings),
        *_section("registries.NAME", RegistryHost),
        *_section("prune", PruneSettings),
        *_section("[address_pools]", AddressPool),
        *_section("api", ApiSettings),
        *_section("policies.DIRECTORY", SpecsPolicy),
    ]
    return "\n".join(lines) + "\n"


Section = AddressPool | PruneSettings | RegistryHost | ApiSettings | SpecsPolicy


def _section(title: str, model: type[Section]) -> list[str]:
    return ["", f"## [{title}]", "", (model.__doc__ or "").strip(), "", *_table(model)]


def _table(model: type[Settings | Section]) -> list[str]:
    rows = ["| key | default | what it is |", "| --- | --- | --- |"]
    for name, field in model.model_fields.items():
        default = "" if field.is_required() else field.get_default(call_default_factory=True)
        shown = "see below" if hasattr(default, "model_dump") else _shown(default)
        shown = f"`0o{default:o}`" if name.endswith("_mode") else shown
        rows.append(f"| `{name}` | {shown} | {field.description or ''} |")
    return rows


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(f"`{v}`" for v in value) or "none"
    if isinstance(value, dict):
        return "none"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`" if value not in ("", None) else "none"


def test_the_reference_page_is_up_to_date() -> None:
    golden_text.agrees(PAGE, page())
    undescribed = [n for n, f in Settings.model_fields.items() if not f.description]
    assert undescribed == []
