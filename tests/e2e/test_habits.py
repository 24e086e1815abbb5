"""Ten habits of public images run unharmed under what a service gets that asks for nothing."""

from __future__ import annotations

import io
import os
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.client import Client
from examples.make_image import find_busybox, layer
from tests import programs
from tests.e2e.harness import AgentUnderTest, free_port, get

pytestmark = [pytest.mark.privileged, pytest.mark.slow]  # cron works by the minute

HERE = Path(__file__).parent / "habits"
IMAGE = "localhost/habits:1"
PASSWD = """root:x:0:0:root:/root:/bin/sh
sshd:x:22:22::/var/empty:/bin/false
postgres:x:70:70::/var/lib/postgresql:/bin/sh
nginx:x:101:101::/www:/bin/false
user:x:1000:1000::/home:/bin/sh
"""
GROUP = "root:x:0:\ntty:x:5:\nsshd:x:22:\npostgres:x:70:\nnginx:x:101:\nusers:x:1000:\nmail:x:2000:\n"
FILES = {
    "etc/passwd": (PASSWD, 0o644, 0),
    "etc/group": (GROUP, 0o644, 0),
    "etc/crontabs/user": ("* * * * * id -u > /out/cron; id -g >> /out/cron\n", 0o600, 0),
    "root/secret": ("secret\n", 0o600, 0),
}
PROGRAMS = {
    "sudo": (0o4755, 0),
    "egid": (0o2755, 2000),
    **dict.fromkeys(("gosu", "iping", "sshd", "postgres"), (0o755, 0)),
}
DIRECTORIES = {"srv": (0o755, 0), "var/empty": (0o755, 0), "var/mail": (0o2777, 2000), "var/log/nginx": (0o755, 0)}
LINKS = {"var/log/nginx/access.log": "/dev/stdout", "var/log/nginx/error.log": "/dev/stderr"}


def image(program: bytes) -> bytes:
    """The examples' layer with the habits' users, programs, links and files on top."""
    out = io.BytesIO(layer(find_busybox()))
    with tarfile.open(fileobj=out, mode="a") as tar:
        entries = [
            *((name, tarfile.DIRTYPE, mode, group, b"", "") for name, (mode, group) in DIRECTORIES.items()),
            *((name, tarfile.REGTYPE, mode, group, text.encode(), "") for name, (text, mode, group) in FILES.items()),
            *((f"bin/{name}", tarfile.REGTYPE, mode, group, program, "") for name, (mode, group) in PROGRAMS.items()),
            *((name, tarfile.SYMTYPE, 0o777, 0, b"", target) for name, target in LINKS.items()),
        ]
        for name, kind, mode, group, data, link in entries:
            info = tarfile.TarInfo(name)
            info.type, info.mode, info.gid, info.size, info.linkname = kind, mode, group, len(data), link
            tar.addfile(info, io.BytesIO(data) if data else None)
    return out.getvalue()


class Habits:
    """The project under its agent: where services write, and the ports of two."""

    def __init__(self, agent: AgentUnderTest, home: Path) -> None:
        self.agent, self.out = agent, home / "out"
        self.ports = {"NGINX": free_port(), "LOW": free_port()}

    def open(self) -> None:
        """Bring in the image, then the spec."""
        self.out.mkdir()
        (self.out / "theirs").write_text("theirs\n")
        for path in (self.out, self.out / "theirs"):
            os.chown(path, 1000, 1000)
        self.out.chmod(0o777)
        program = programs.build(HERE / "program.c", self.agent.home / "program")
        Client(self.agent.socket).import_layer(io.BytesIO(image(program.read_bytes())), IMAGE)
        text = (HERE / "compose.yaml").read_text().replace("${OUT}", str(self.out))
        for name, port in self.ports.items():
            text = text.replace(f"${{{name}}}", str(port))
        (self.agent.specs / "compose.yaml").write_text(text)
        self.agent.until("all have started", lambda: len(self.agent.containers()) == 10 and self.started(), 60)

    def started(self) -> bool:
        """Whether no service is still to come."""
        return all(tree["State"]["Status"] in ("running", "exited") for tree in self.agent.containers().values())

    def said(self, service: str) -> list[str]:
        """What a service that ends wrote into its file, once it has ended; it ended well."""
        self.agent.until(f"{service} has ended", lambda: self.state(service)["Status"] == "exited", 90)
        assert self.state(service)["ExitCode"] == 0, self.agent.trueup("logs", service)
        return (self.out / service).read_text().split()

    def state(self, service: str) -> dict[str, object]:
        found: dict[str, object] = self.agent.containers()[service]["State"]
        return found


@pytest.fixture(scope="module")
def habits() -> Iterator[Habits]:
    with tempfile.TemporaryDirectory(prefix="tu-", dir="/var/tmp") as directory:
        home = Path(directory)
        home.chmod(0o755)
        with AgentUnderTest(home) as agent:
            found = Habits(agent, home)
            found.open()
            yield found


def test_sudo_becomes_root(habits: Habits) -> None:
    assert habits.said("sudo") == ["1000", "refused", "0", "secret"]


def test_gosu_gives_root_up_for_good(habits: Habits) -> None:
    assert habits.said("gosu") == ["1000", "1000", "1000", "refused", "CapEff:", "0" * 16]


def test_ping_needs_no_right(habits: Habits) -> None:
    assert habits.said("ping") == ["reply", "reply"]


def test_cron_runs_jobs_as_their_user(habits: Habits) -> None:
    habits.agent.until("the minute is full", lambda: (habits.out / "cron").exists(), 90)
    habits.agent.until("the job has ended", lambda: (habits.out / "cron").read_text().split() == ["1000", "1000"])
    assert (habits.out / "cron").stat().st_uid == 1000


def test_sshd_locks_a_child_up_and_opens_terminals(habits: Habits) -> None:
    assert habits.said("sshd") == ["/dev/pts/0", "1000", "1000", "terminal"]


def test_a_database_owns_its_volume(habits: Habits) -> None:
    assert habits.said("postgres") == ["ready"]
    volume = next(v for v in habits.agent.api("/volumes")["Volumes"] if v["Name"] == "habits_data")
    found = Path(volume["Mountpoint"], "data")
    assert (found.stat().st_uid, found.stat().st_gid, found.stat().st_mode & 0o777) == (70, 70, 0o700)
    assert (found / "base").stat().st_uid == 70


def test_a_web_server_drops_root_and_logs_through_links(habits: Habits) -> None:
    url = f"http://127.0.0.1:{habits.ports['NGINX']}"
    habits.agent.until("it serves", lambda: "It runs" in get(url, 1))
    pid = habits.agent.pids()["nginx"]
    base = int(Path(f"/proc/{pid}/uid_map").read_text().split()[1])
    assert base > 0 and os.stat(f"/proc/{pid}").st_uid == base + 101
    logs = habits.agent.trueup("logs", "nginx")
    assert "from a worker" in logs and "a warning" in logs


def test_a_bind_mount_keeps_its_owners(habits: Habits) -> None:
    assert habits.said("owner") == ["1000"]
    assert (habits.out / "theirs").read_text() == "theirs\nmore\n"
    assert {(habits.out / name).stat().st_uid for name in ("theirs", "made", "made.d")} == {1000}


def test_a_low_port_needs_no_root(habits: Habits) -> None:
    url = f"http://127.0.0.1:{habits.ports['LOW']}"
    habits.agent.until("it serves", lambda: "It runs" in get(url, 1))
    pid = habits.agent.pids()["low-port"]
    assert os.stat(f"/proc/{pid}").st_uid == int(Path(f"/proc/{pid}/uid_map").read_text().split()[1]) + 1000


def test_setgid_programs_and_directories_work(habits: Habits) -> None:
    assert habits.said("setgid") == ["1000", "2000", "2000"]
