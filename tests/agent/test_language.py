"""The language through to the containers: many files make one project, and an edit of any of them is noticed."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.agent.jump import play
from tests.agent.world import World, world

PROJECT = {
    "compose.yaml": """\
include: [parts/db.yaml]
services:
  web:
    extends: {file: parts/base.yaml, service: base}
    image: "web:${TAG:?set TAG}"
    env_file: [web.env, {path: none.env, required: false}]
    environment: {OWN: "${OWN:-default}", COST: "5$$"}
    ports: ["8080:80"]
    command: [old]
  debug: {image: tools, profiles: [debug]}
""",
    "compose.override.yaml": """\
services:
  web:
    ports: !override ["9090:80"]
    command: !reset null
    labels: {layer: override}
""",
    "parts/base.yaml": "services: {base: {image: nothing, init: true, labels: {from: base}, mem_limit: 64m}}\n",
    "parts/db.yaml": "services: {db: {image: db, environment: {MODE: one}}}\n",
    "web.env": "FROM_FILE=one\n",
    ".env": "TAG=7\n",
}


def put(w: World, name: str, text: str) -> None:
    """One file of the project, and the scan that inotify would cause."""
    path = w.specs / "shop" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    w.scan()


def environment(w: World, name: str) -> dict[str, str]:
    return dict(e.split("=", 1) for e in w.containers()[name].config.environment)


def test_many_files_make_one_project_and_each_is_watched(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as w:
            for name in reversed(PROJECT):  # compose.yaml last, so that no scan finds half of it
                put(w, name, PROJECT[name])
            await w.settle()
            assert w.running() == {"shop-web-1", "shop-db-1"}, [f.problems for f in w.agent.status().files]
            web = w.containers()["shop-web-1"]
            assert (web.config.image, web.config.command, web.config.init) == ("web:7", None, True)
            assert environment(w, "shop-web-1") == {"FROM_FILE": "one", "OWN": "default", "COST": "5$"}
            assert [p.host_port for p in web.config.networking.ports] == [9090]
            assert (web.config.labels["from"], web.config.labels["layer"]) == ("base", "override")
            assert web.config.limits.memory == 64 << 20

            put(w, "web.env", "FROM_FILE=two\n")
            await w.settle(8)
            assert environment(w, "shop-web-1")["FROM_FILE"] == "two"
            put(w, "parts/db.yaml", PROJECT["parts/db.yaml"].replace("one", "two"))
            await w.settle(8)
            assert environment(w, "shop-db-1")["MODE"] == "two"
            put(w, "parts/base.yaml", PROJECT["parts/base.yaml"].replace("64m", "128m"))
            put(w, "none.env", "LATE=yes\n")
            put(w, ".env", "TAG=8\nOWN=mine\nCOMPOSE_PROFILES=debug\n")
            await w.settle(8)
            web = w.containers()["shop-web-1"]
            assert (web.config.image, web.config.limits.memory) == ("web:8", 128 << 20)
            assert environment(w, "shop-web-1")["OWN"] == "mine" and environment(w, "shop-web-1")["LATE"] == "yes"
            assert w.running() == {"shop-web-1", "shop-db-1", "shop-debug-1"}

            put(w, ".env", "OWN=mine\n")
            await asyncio.sleep(5)
            (file,) = w.agent.status().files
            assert file.state == "invalid" and "set TAG" in file.problems[0].message
            assert file.problems[0].path.endswith("shop/compose.yaml") and file.problems[0].line == 5
            assert w.running() == {"shop-web-1", "shop-db-1", "shop-debug-1"}, "the last good version is kept"

    play(story())


def test_composes_first_form_runs_and_todays_is_shown(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as w:
            w.write("old.yaml", 'webapp: {image: examples/web, ports: ["8000:8000"], volumes: ["/data"]}\n')
            await w.settle()
            webapp = w.containers()["old-webapp-1"]
            assert webapp.pid and [p.host_port for p in webapp.config.networking.ports] == [8000]
            assert [(m.target, m.anonymous) for m in webapp.config.mounts] == [("/data", True)]
            (project,) = w.agent.status().projects
            assert any("services:" in notice for notice in project.notices)

    play(story())


def test_toml_says_the_same(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as w:
            w.write("a.yaml", "services: {web: {image: a, ports: ['80:80'], deploy: {replicas: 2}, mem_limit: 64m}}\n")
            toml = '[services.web]\nimage = "a"\nports = ["81:80"]\ndeploy.replicas = 2\nmem_limit = "64m"\n'
            w.write("b.toml", toml)
            await w.settle()
            assert w.running() == {"a-web-1", "a-web-2", "b-web-1", "b-web-2"}
            one, other = (w.containers()[f"{p}-web-1"].config for p in "ab")
            assert one.limits == other.limits and one.image == other.image

    play(story())
