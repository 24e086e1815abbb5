"""Commands against a running agent: what they print, how they exit, and what they say when it goes wrong."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from agent import human
from agent.cli import main, show
from agent.cli.checks import all_checks
from agent.cli.events import event_text
from agent.cli.options import Chosen
from agent.cli.pull import split_reference
from agent.control import Condition, Hold, ProjectStatus, ReplicaStatus, ServiceStatus
from agent.settings import Settings
from agent.views import Change, PlanView, Problem, SpecFile, StepView
from runtime.engine.model import PortBinding
from tests.agent.engine_api.conftest import Served
from tests.agent.engine_api.test_objects import saved_image

LABELS = {"com.docker.compose.project": "shop", "com.docker.compose.service": "web"}


def run(served: Served, *words: str, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(main, [words[0], "-H", f"unix://{served.path}", *words[1:]], input=stdin)


def program(served: Served, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "agent", words[0], "-H", f"unix://{served.path}", *words[1:]]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=30)


def service(**more: object) -> ServiceStatus:
    ready = Condition(type="Ready", status="True", reason="ReconciliationSucceeded")
    values = {
        "project": "shop",
        "name": "web",
        "image": "app:1",
        "desired": 1,
        "running": 1,
        "generation": 1,
        "observed_generation": 1,
        "spec_hash": "h",
        "conditions": (ready,),
    }
    return ServiceStatus(**{**values, **more})  # type: ignore[arg-type]


def declare(
    served: Served, *services: ServiceStatus, hold: Hold | None = None, files: tuple[SpecFile, ...] = ()
) -> None:
    project = ProjectStatus(
        name="shop", working_dir="/s", files=("/s/shop.yaml",), generation=1, services=services, hold=hold
    )
    served.control.state = replace(served.control.state, at=1000.0, projects=(project,), files=files)


def test_status_tells_state_and_why(served: Served) -> None:
    port = PortBinding(container_port=80, host_ip="127.0.0.1", host_port=8080)
    up = ReplicaStatus(
        name="shop-web-1", number=1, state="running", health="healthy", started_at=880.0, restarts=2, ports=(port,)
    )
    down = ReplicaStatus(name="shop-db-1", number=1, state="exited", exit_code=1, next_attempt=1003.0)
    failing = Condition(type="Ready", status="False", reason="Failed", message="it exited with 1")
    problem = Problem(path="/s/bad.yaml", line=3, column=5, message='cannot use "enviroment"')
    declare(
        served,
        service(replicas=(up,)),
        service(name="db", running=0, replicas=(down,), conditions=(failing,)),
        hold=Hold(kind="suspended", reason="moving", who="eva"),
        files=(SpecFile(path="/s/bad.yaml", state="invalid", problems=(problem,), kept=True),),
    )
    assert run(served, "status").output.splitlines() == [
        "SERVICE    STATE                    HEALTH    PORTS                   SINCE   RESTARTS   WHY",
        "shop/web   running                  healthy   127.0.0.1:8080→80/tcp   2 min   2",
        "shop/db    exited 1, again in 3 s   -         -                       -       0          it exited with 1",
        "",
        "/s/bad.yaml is invalid: its last good version is kept",
        '  /s/bad.yaml:3:5: cannot use "enviroment"',
        "shop is held (suspended) by eva: moving",
    ]
    assert '"spec_hash": "h"' in run(served, "status", "--json").output
    assert "did you mean shop?" in run(served, "status", "shp").output
    tree = json.loads(run(served, "get", "db", "-o", "json").output)
    assert (tree["project"], tree["replicas"][0]["exit_code"], tree["revisions"]) == ("shop", 1, [])
    assert "exit_code: 1\n" in run(served, "get", "shop/db").output
    assert "did you mean shop/db?" in run(served, "get", "shop/bd").output


@pytest.mark.parametrize(
    ("steps", "problems", "code"), [(0, 0, 0), (1, 0, 2), (1, 1, 1)], ids=["nothing", "changes", "wrong"]
)
def test_plan_exits_by_what_there_is_to_do(served: Served, steps: int, problems: int, code: int) -> None:
    step = StepView(id="1", kind="start", project="shop", service="web", target="w", text="start w", cause="it is down")
    change = Change(
        project="shop", service="web", target="w", field="image", old="1", new="2", cls="recreate", reason="spec"
    )
    wrong = Problem(path="a.yaml", line=1, column=2, message="no")
    served.control.shown = PlanView(id="p7", steps=(step,) * steps, changes=(change,), problems=(wrong,) * problems)
    got = run(served, "plan")
    assert got.exit_code == code, got.output
    assert "~ w image: 1 → 2 [recreate] spec" in got.output
    assert ("1. start w — it is down" in got.output) is bool(steps)
    assert ("a.yaml:1:2: no" in got.output) is bool(problems)
    assert served.control.asked[-1] == ("plan", None)


def test_small_requests_reach_the_agent(served: Served) -> None:
    for words, asked in (
        (("up", "shop"), ("up", "shop")),
        (("approve", "shop"), ("approve", "shop")),
        (("apply", "--plan", "p1"), ("apply", "p1")),
        (("suspend", "shop", "--reason", "r"), ("suspend", "shop", "r")),
        (("resume", "shop"), ("resume", "shop")),
        (("promote", "shop/web"), ("promote", "shop/web")),
        (("down", "shop", "--volumes"), ("down", "shop", True)),
    ):
        got = run(served, *words)
        assert got.exit_code == 0, got.output
        assert served.control.asked[-1] == asked
    assert run(served, "why", "shop/web").output == "shop/web is ready\n"
    assert run(served, "down").exit_code == 1


def test_errors_are_one_line_with_a_way_out(served: Served, tmp_path: Path) -> None:
    got = run(served, "logs", "nothere")
    assert (got.exit_code, got.output) == (
        1,
        "trueup: cannot find service 'nothere' (`trueup status` lists what there is)\n",
    )
    silent = CliRunner().invoke(main, ["status", "-H", f"unix://{tmp_path}/none"])
    assert silent.exit_code == 1
    assert silent.output == (
        f"trueup: cannot reach the agent at unix://{tmp_path}/none: it is not running "
        f"(start it with: trueup agent -H unix://{tmp_path}/none)\n"
    )
    assert "unix://PATH only" in CliRunner().invoke(main, ["ps", "-H", "tcp://x:1"]).output


def test_an_agent_that_starts_does_not_answer_yet(tmp_path: Path) -> None:
    options = ["--root", str(tmp_path), "-H", f"unix://{tmp_path}/no.sock"]
    assert "it is not running" in CliRunner().invoke(main, ["status", *options]).output
    with open(tmp_path / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "does not answer yet" in CliRunner().invoke(main, ["status", *options]).output


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["stauts"], "trueup: cannot run `trueup`: no such command 'stauts', did you mean status?"),
        (["plan", "--jsn"], "trueup: cannot run `trueup plan`: no such option '--jsn'. Did you mean '--json'?"),
        (["why"], "trueup: cannot run `trueup why`: missing argument 'SERVICE' (see trueup why --help)"),
        (["validate", "/no/such"], "trueup: cannot read /no/such: there is no such file or directory"),
    ],
)
def test_wrong_words_are_told_in_one_line(words: list[str], told: str) -> None:
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 1 and done.output.startswith(told) and done.output.count("\n") == 1


def test_logs_ps_exec_by_service_name(served: Served) -> None:
    served.create("shop-web-1", Cmd=["echo", "hello"], Labels=LABELS, start=True)
    assert program(served, "logs", "shop/web").stdout == "hello\n"
    assert "shop-web-1" in run(served, "ps").output
    stopped = program(served, "exec", "web", "true")
    assert stopped.returncode == 1 and "cannot exec in web: 0 of its containers run" in stopped.stderr
    served.create("shop-web-2", Cmd=["sleep", "999"], Labels=LABELS, start=True)
    assert program(served, "exec", "web", "echo", "-n", "x").stdout == "-n x\n"
    assert program(served, "exec", "shop/web", "false").returncode == 1
    missing = program(served, "exec", "web", "no-such")
    assert missing.returncode == 127 and "no-such" in missing.stdout


def test_replicas_share_the_terminal_line_by_line(served: Served) -> None:
    for n in (1, 2):
        served.create(f"shop-web-{n}", Cmd=["echo", f"from {n}"], Labels=LABELS, start=True)
    lines = sorted(program(served, "logs", "web").stdout.splitlines())
    assert lines == ["shop-web-1 | from 1", "shop-web-2 | from 2"]


def test_a_name_two_projects_have_is_asked_back(served: Served) -> None:
    for project in ("a", "b"):
        served.create(f"{project}-web-1", Labels={**LABELS, "com.docker.compose.project": project})
    assert "cannot tell which web is meant: a/web or b/web" in run(served, "logs", "web").output


def test_images_pull_load(served: Served, tmp_path: Path) -> None:
    assert run(served, "pull", "alpine:3.20").output.splitlines()[-1] == "alpine:3.20"
    archive = tmp_path / "a.tar"
    archive.write_bytes(saved_image("app:7"))
    assert run(served, "load", str(archive)).output == "Loaded image: app:7\n"
    assert run(served, "load", "-q", "-", stdin=archive.read_bytes()).output == ""
    shown = run(served, "images").output
    assert "alpine:3.20" in shown and "app:7" in shown
    archive.write_bytes(b"rubbish")
    assert run(served, "load", str(archive)).exit_code == 1


def test_references() -> None:
    assert split_reference("alpine") == ("alpine", "latest")
    assert split_reference("host:5000/a/b:1") == ("host:5000/a/b", "1")
    assert split_reference("host:5000/a") == ("host:5000/a", "latest")
    assert split_reference("a@sha256:00") == ("a", "sha256:00")


def test_where_the_agent_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith("TRUEUP_"):
            monkeypatch.delenv(name)
    file = tmp_path / "agent.toml"
    file.write_text('hosts = ["unix:///from/file.sock"]\n')
    assert Chosen({"config_file": str(file)}).host == "unix:///from/file.sock"
    assert Chosen({"config_file": str(file), "run_dir": "/r"}).host == "unix:///r/docker.sock"
    assert Chosen({"config_file": str(file), "hosts": ("unix:///a", "unix:///b")}).host == "unix:///a"
    assert Chosen({"config_file": str(file), "run_dir": "/r"}).settings().hosts == ("unix:///from/file.sock",)
    monkeypatch.setenv("TRUEUP_HOSTS", "unix:///env.sock")
    assert Chosen().host == "unix:///env.sock"


def test_doctor_looks_at_everything(tmp_path: Path) -> None:
    names = {check.name for check in all_checks(Settings(root=str(tmp_path), hosts=()))}
    assert {"kernel", "cgroups", "overlay", "user namespaces", "seccomp", "nftables", "disk"} <= names
    got = CliRunner().invoke(main, ["doctor", "--root", str(tmp_path), "--json"])
    assert got.exit_code in (0, 1) and '"state"' in got.output


def test_global_options_before_and_after_the_name(served: Served) -> None:
    before = CliRunner().invoke(main, ["-H", f"unix://{served.path}", "images"])
    assert before.exit_code == 0, before.output


def test_help_does_not_import_the_agent() -> None:
    seen = "atexit.register(lambda: print('pydantic' in sys.modules))"
    code = f"import atexit, sys, agent.cli; {seen}; agent.cli.main(['--help'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.endswith("False\n"), done.stdout + done.stderr


def test_show() -> None:
    assert [show.ago(0), show.ago(90, 100), show.ago(10, 100), show.ago(1, 8000), show.ago(1, 200_000)] == [
        "-",
        "10 s",
        "1 min",
        "2 h",
        "2 d",
    ]
    assert [human.size(n) for n in (5, 1500, 7_790_000, 2e9)] == ["5 B", "1.5 kB", "7.79 MB", "2 GB"]
    assert time.strftime("%Y") in show.clock(time.time() - 90_000)


def test_watch_draws_in_place_on_a_terminal(served: Served) -> None:
    declare(served, service())
    ours, theirs = pty.openpty()
    words = [sys.executable, "-m", "agent", "status", "--watch", "-H", f"unix://{served.path}"]
    with subprocess.Popen(words, stdin=theirs, stdout=theirs, stderr=theirs, close_fds=True) as process:
        os.close(theirs)
        seen = b""
        while b"shop/web" not in seen:
            seen += os.read(ours, 65536)
        process.send_signal(signal.SIGINT)
        assert process.wait() == 130
    os.close(ours)
    assert b"\x1b[?1049h" in seen, "on a screen of its own, so that what was there comes back"


@pytest.mark.parametrize(
    ("attributes", "told"),
    [
        ({"text": "start container a", "cause": "c", "result": "began"}, ""),
        ({"text": "wait until a runs", "cause": "c", "result": "began"}, "shop/web wait until a runs … — c"),
        (
            {"text": "start container a", "cause": "c", "result": "ok", "seconds": "0.5"},
            "start container a (0.50 s) — c",
        ),
        ({"text": "start container a", "cause": "c", "result": "failed", "error": "cannot"}, "a — c: cannot"),
    ],
)
def test_steps_as_they_happen(attributes: dict[str, str], told: str) -> None:
    whose = {"project": "shop", "service": "web"}
    event = {"time_ns": 0, "type": "service", "action": "step", "id": "x", "attributes": {**whose, **attributes}}
    assert event_text(event).endswith(told) and bool(event_text(event)) is bool(told)
