"""Push and pull through a real agent's command line, against Debian's docker-registry in each of its four modes."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.harness import IMAGE, REPOSITORY, AgentUnderTest, environment
from tests.runtime.image.registries import HASH, issuer, make_certificates, registry

pytestmark = [
    pytest.mark.privileged,
    pytest.mark.peer,
    pytest.mark.skipif(not shutil.which("docker-registry"), reason="peer: docker-registry is not installed"),
]
DOCKER = "/usr/bin/docker"


@pytest.fixture
def agent(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[AgentUnderTest]:
    """An agent with directories of its own for logins and authorities."""
    (scratch / "agent.toml").write_text(
        f'certs_dir = "{scratch}/certs.d"\ndocker_config = "{scratch}/docker/config.json"\n'
    )
    (scratch / "docker").mkdir()
    monkeypatch.setenv("TRUEUP_CONFIG", str(scratch / "agent.toml"))
    with AgentUnderTest(scratch) as running:
        running.until("the image is there", lambda: bool(running.api("/images/json")))
        yield running


@contextmanager
def plain(_: Path) -> Iterator[str]:
    """http on loopback, which needs no leave."""
    with registry(_) as host:
        yield host


@contextmanager
def tls(home: Path) -> Iterator[str]:
    """https with a certificate of an authority that only certs.d knows."""
    authority, certificate, key = make_certificates(home / "certificates")
    with registry(home, http={"tls": {"certificate": str(certificate), "key": str(key)}}) as host:
        (home / "certs.d" / host).mkdir(parents=True)
        shutil.copy(authority, home / "certs.d" / host / "ca.crt")
        yield host


@contextmanager
def htpasswd(home: Path) -> Iterator[str]:
    """A user and a password, for reading as well."""
    (home / "htpasswd").write_text(HASH + "\n")
    with registry(home, auth={"htpasswd": {"realm": "test", "path": str(home / "htpasswd")}}) as host:
        yield host


@contextmanager
def token(home: Path) -> Iterator[str]:
    """Tokens of a service of their own."""
    with issuer(home / "issuer") as (realm, bundle, _):
        settings = {"realm": realm, "service": "registry.test", "issuer": "test", "rootcertbundle": str(bundle)}
        with registry(home, auth={"token": settings}) as host:
            yield host


MODES = {"plain": plain, "tls": tls, "htpasswd": htpasswd, "token": token}


def given(agent: AgentUnderTest, *words: str, password: str) -> str:
    """A command with a password on its stdin, as a script gives it."""
    command = [sys.executable, "-m", "agent", words[0], *agent.options, "--username", "me", *words[1:]]
    done = subprocess.run(
        command, input=password + "\n", capture_output=True, text=True, cwd=REPOSITORY, env=environment(agent),
        check=False,
    )  # fmt: skip
    return done.stdout + done.stderr


@pytest.mark.parametrize("mode", MODES)
def test_there_and_back(mode: str, agent: AgentUnderTest, scratch: Path) -> None:
    with MODES[mode](scratch) as host:
        name, closed = f"{host}/some/app:1", mode in ("htpasswd", "token")
        image = agent.api(f"/images/{IMAGE}/json")["Id"]
        agent.api(f"/images/{IMAGE}/tag?repo={host}/some/app&tag=1", "POST")
        if closed:
            for words in (("push", name), ("pull", name)):
                assert "cannot " in agent.trueup(*words, ok=(1,))
                assert "cannot " in given(agent, *words, password="wrong")
            assert ": digest: sha256:" in given(agent, "push", name, password="secret")
        else:
            assert ": digest: sha256:" in agent.trueup("push", name)
        assert "Layer already exists" in _again(agent, name, closed)
        agent.trueup("system", "prune")
        for ref in (name, IMAGE):
            agent.api(f"/images/{ref}", "DELETE")
        assert agent.api("/images/json") == []
        said = given(agent, "pull", name, password="secret") if closed else agent.trueup("pull", name)
        assert f"Status: Downloaded newer image for {name}" in said
        assert agent.api(f"/images/{name}/json")["Id"] == image
        made = agent.api("/containers/create", "POST", {"Image": name, "Cmd": ["sh", "-c", "exit 7"]})
        agent.api(f"/containers/{made['Id']}/start", "POST")
        assert agent.api(f"/containers/{made['Id']}/wait", "POST")["StatusCode"] == 7
        agent.api(f"/containers/{made['Id']}", "DELETE")
        assert "Image is up to date" in (
            given(agent, "pull", name, password="secret") if closed else agent.trueup("pull", name)
        )


def _again(agent: AgentUnderTest, name: str, closed: bool) -> str:
    return given(agent, "push", name, password="secret") if closed else agent.trueup("push", name)


@pytest.mark.parametrize("mode", ["htpasswd", "token"])
def test_dockers_login_is_asked_of_the_registry(mode: str, agent: AgentUnderTest, scratch: Path) -> None:
    if not Path(DOCKER).exists():
        pytest.skip("peer: the docker command is not installed")
    with MODES[mode](scratch) as host:

        def docker(*words: str, ok: int = 0) -> str:
            command = [DOCKER, "--config", str(scratch / "client"), "-H", f"unix://{agent.socket}", *words]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.returncode == ok, done.stderr
            return done.stdout + done.stderr

        name = f"{host}/some/app:1"
        docker("tag", IMAGE, name)
        assert "cannot" in docker("login", "-u", "me", "-p", "wrong", host, ok=1)
        docker("push", name, ok=1)
        assert "Login Succeeded" in docker("login", "-u", "me", "-p", "secret", host)
        assert "digest: sha256:" in docker("push", name)
        docker("rmi", name)
        assert f"Status: Image is up to date for {name}" in docker("pull", name)


def test_a_service_is_pulled_with_the_login_of_the_agents_docker_config(agent: AgentUnderTest, scratch: Path) -> None:
    with htpasswd(scratch) as host:
        name = f"{host}/some/app:1"
        agent.api(f"/images/{IMAGE}/tag?repo={host}/some/app&tag=1", "POST")
        given(agent, "push", name, password="secret")
        agent.api(f"/images/{name}", "DELETE")
        login = base64.b64encode(b"me:secret").decode()
        (scratch / "docker/config.json").write_text(json.dumps({"auths": {host: {"auth": login}}}))
        spec = f'services: {{box: {{image: "{name}", command: [sleep, "86423"], stop_signal: SIGKILL}}}}\n'
        (agent.specs / "app.yaml").write_text(spec)
        agent.running("box")
