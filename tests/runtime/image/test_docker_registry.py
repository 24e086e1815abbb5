"""Debian's docker-registry in four ways: plain on loopback, TLS of an own authority, htpasswd, tokens."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from runtime.errors import Forbidden, NotFound, Unauthorized, Unavailable
from runtime.image.challenge import Credentials
from runtime.image.registry import Registry
from runtime.image.settings import RegistryHost, Settings
from runtime.image.view import StoredImage
from tests.runtime.image.registries import HASH, LOGIN, issuer, make_certificates, registry
from tests.runtime.image.world import QUICK, Made, Site, docker_archive, make

pytestmark = [
    pytest.mark.peer,
    pytest.mark.skipif(os.geteuid() != 0, reason="privileged: workers confine themselves, which takes root"),
    pytest.mark.skipif(not shutil.which("docker-registry"), reason="peer: docker-registry is not installed"),
]


@pytest.fixture
def image() -> Made:
    return make({"a": b"1" * 100_000}, {"b": b"2"}, Cmd=["/a"])


def there_and_back(
    scratch: Path, image: Made, host: str, settings: Settings = QUICK, auth: Credentials | None = None
) -> None:
    """Push an image, then pull it by tag and by digest into an empty store."""
    name = f"{host}/some/app:1"

    async def run() -> None:
        here = Site(scratch / "here", settings, unpacks=False)
        await here.images.load(str(docker_archive(image, [name], scratch / "x.tar")))
        digest = await here.images.push(name, auth)
        await here.close()
        for number, ref in enumerate((name, f"{host}/some/app@{digest}")):
            there = Site(scratch / f"there{number}", settings, unpacks=False)
            found = await there.images.pull(ref, "", auth)
            assert found.id == image.id
            assert found.digests == (f"{host}/some/app@{digest}",)
            there.stored()
            await there.close()

    asyncio.run(run())


def pull(site: Site, name: str, auth: Credentials | None = None) -> StoredImage:
    """One pull, its worker seen to its end."""

    async def run() -> StoredImage:
        try:
            return await site.images.pull(name, "", auth)
        finally:
            await site.close()

    return asyncio.run(run())


def test_plain_http_on_loopback(scratch: Path, image: Made) -> None:
    with registry(scratch) as host:
        there_and_back(scratch, image, host)


def test_skopeo_and_we_agree(scratch: Path, image: Made) -> None:
    if not shutil.which("skopeo"):
        pytest.skip("peer: skopeo is not installed")
    archive = docker_archive(image, ["app:1"], scratch / "x.tar")
    with registry(scratch) as host:
        copy = [
            "skopeo",
            "copy",
            "-q",
            "--dest-tls-verify=false",
            f"docker-archive:{archive}",
            f"docker://{host}/app:1",
        ]
        subprocess.run(copy, check=True)
        site = Site(scratch / "site", unpacks=False)
        assert pull(site, f"{host}/app:1").id == image.id
        asyncio.run(site.images.tag(f"{host}/app:1", f"{host}/other:2"))
        asyncio.run(site.images.push(f"{host}/other:2"))
        seen = subprocess.run(
            ["skopeo", "inspect", "--tls-verify=false", "--config", f"docker://{host}/other:2"],
            check=True,
            capture_output=True,
        )
        assert json.loads(seen.stdout)["config"]["Cmd"] == ["/a"]


def test_a_second_push_sends_nothing_and_another_repository_is_mounted_from(scratch: Path, image: Made) -> None:
    with registry(scratch) as host:
        site = Site(scratch / "site", unpacks=False)
        archive = docker_archive(image, [f"{host}/one:1"], scratch / "x.tar")
        said: list[str] = []

        async def run() -> None:
            await site.images.load(str(archive))
            for name in ("one:1", "one:1", "two:1"):
                await site.images.tag(image.id, f"{host}/{name}")
                await site.images.push(f"{host}/{name}", None, lambda p: said.append(p.status))
            await site.close()

        asyncio.run(run())
        ends = [status for status in said if status.startswith(("Pushed", "Layer", "Mounted"))]
        assert ends[:2] == ["Pushed"] * 2
        assert ends[2:4] == ["Layer already exists"] * 2
        assert ends[4:] == ["Mounted from one"] * 2


def test_tags_and_what_is_not_there(scratch: Path, image: Made) -> None:
    with registry(scratch) as host:
        there_and_back(scratch, image, host)
        with Registry(QUICK, host, {}) as client:
            assert client.tags("some/app") == ("1",)
            assert client.referrers("some/app", image.digest) == ()
        site = Site(scratch / "site", unpacks=False)
        for ref in (f"{host}/some/app:2", f"{host}/none:1", f"{host}/some/app@sha256:{'0' * 64}"):
            with pytest.raises(NotFound, match="cannot find image"):
                pull(site, ref)


def test_htpasswd(scratch: Path, image: Made) -> None:
    (scratch / "htpasswd").write_text(HASH + "\n")
    auth = {"htpasswd": {"realm": "test", "path": str(scratch / "htpasswd")}}
    with registry(scratch, auth=auth) as host:
        site = Site(scratch / "site", unpacks=False)
        with pytest.raises(Unauthorized, match="docker login"):
            pull(site, f"{host}/some/app:1")
        wrong = Credentials(username="me", password="wrong")
        with pytest.raises(Unauthorized):
            pull(site, f"{host}/some/app:1", wrong)
        there_and_back(scratch, image, host, auth=LOGIN)


def test_a_login_from_dockers_config(scratch: Path, image: Made) -> None:
    (scratch / "htpasswd").write_text(HASH + "\n")
    auth = {"htpasswd": {"realm": "test", "path": str(scratch / "htpasswd")}}
    with registry(scratch, auth=auth) as host:
        there_and_back(scratch, image, host, auth=LOGIN)
        packed = base64.b64encode(b"me:secret").decode()
        (scratch / "config.json").write_text(json.dumps({"auths": {host: {"auth": packed}}}))
        site = Site(scratch / "site", docker_config=str(scratch / "config.json"), unpacks=False)
        assert pull(site, f"{host}/some/app:1").id == image.id


# ---------------------------------------------------------------- TLS


def test_tls_of_an_own_authority(scratch: Path, image: Made) -> None:
    authority, certificate, key = make_certificates(scratch)
    with registry(scratch, http={"tls": {"certificate": str(certificate), "key": str(key)}}) as host:
        trusting = replace(QUICK, hosts={host: RegistryHost(ca_file=str(authority))})
        there_and_back(scratch, image, host, trusting)
        other_authority = make_certificates(scratch / "other")[0]
        wrong = replace(QUICK, hosts={host: RegistryHost(ca_file=str(other_authority))})
        site = Site(scratch / "site", wrong, unpacks=False)
        with pytest.raises(Unavailable, match="cannot trust"):
            pull(site, f"{host}/some/app:1")
        directory = scratch / "certs.d" / host
        directory.mkdir(parents=True)
        shutil.copy(authority, directory / "ca.crt")
        by_directory = Site(scratch / "by-directory", replace(QUICK, certs_dir=str(scratch / "certs.d")), unpacks=False)
        assert pull(by_directory, f"{host}/some/app:1").id == image.id


# ---------------------------------------------------------------- tokens


def test_tokens(scratch: Path, image: Made) -> None:
    with issuer(scratch / "issuer") as (realm, bundle, asked):
        token = {"realm": realm, "service": "registry.test", "issuer": "test", "rootcertbundle": str(bundle)}
        with registry(scratch, auth={"token": token}) as host:
            there_and_back(scratch, image, host, auth=LOGIN)
            assert ["repository:some/app:pull,push"] in asked
            assert ["repository:some/app:pull"] in asked
            site = Site(scratch / "site", unpacks=False)
            with pytest.raises(Unauthorized):
                pull(site, f"{host}/some/app:1")


def test_a_token_service_on_another_site_is_refused(scratch: Path) -> None:
    token = {
        "realm": "http://localhost:1/token", "service": "x", "issuer": "test",
        "rootcertbundle": str(make_certificates(scratch)[0]),
    }  # fmt: skip
    with registry(scratch, auth={"token": token}) as host:
        site = Site(scratch / "site", unpacks=False)
        with pytest.raises(Forbidden, match="another site's"):
            pull(site, f"{host}/app:1", LOGIN)
