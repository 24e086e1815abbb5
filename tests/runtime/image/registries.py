"""Debian's docker-registry with certificates of an own authority, and a token service it believes."""

from __future__ import annotations

import base64
import ipaddress
import json
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from runtime.image.challenge import Credentials

LOGIN = Credentials(username="me", password="secret")
# "secret" as htpasswd -B writes it
HASH = "me:$2y$05$WO7NfkxvVzCFRpF/9Vzs6OhDKkMIgt7BCodBLvILv/R/RmkmgA4DC"


@contextmanager
def registry(home: Path, **config: Any) -> Iterator[str]:
    """A registry with its data in `home`; its host and port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    http = {"addr": f"127.0.0.1:{port}", **config.pop("http", {})}
    document = {
        "version": 0.1,
        "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(home / "data")}},
        "http": http,
        **config,
    }
    (home / "config.yml").write_text(json.dumps(document))  # JSON is YAML
    command = ["docker-registry", "serve", str(home / "config.yml")]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            _wait_for(port)
            yield f"127.0.0.1:{port}"
        finally:
            process.terminate()


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except OSError:
            assert time.monotonic() < deadline, "docker-registry does not start"
            time.sleep(0.02)


def make_certificates(home: Path) -> tuple[Path, Path, Path]:
    """An authority, and a certificate of it for 127.0.0.1 with its key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    home.mkdir(exist_ok=True)
    now = datetime.now(UTC)

    def certificate(name: str, issuer: Any, key: Any, signer: Any, extension: Any) -> Any:
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = x509.CertificateBuilder(
            subject_name=subject,
            issuer_name=issuer or subject,
            public_key=key.public_key(),
            serial_number=x509.random_serial_number(),
            not_valid_before=now - timedelta(hours=1),
            not_valid_after=now + timedelta(hours=1),
        )
        return builder.add_extension(extension, critical=False).sign(signer, hashes.SHA256())

    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    authority = certificate("authority", None, authority_key, authority_key, x509.BasicConstraints(True, None))
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    leaf = certificate("registry", authority.subject, key, authority_key, names)
    paths = home / "authority.crt", home / "leaf.crt", home / "leaf.key"
    paths[0].write_bytes(authority.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(leaf.public_bytes(serialization.Encoding.PEM))
    paths[2].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        )
    )
    return paths


class Issuer(BaseHTTPRequestHandler):
    """A token service that knows one user and signs what docker-registry checks (a JWT with its certificate)."""

    key: Any
    certificate: str
    asked: list[list[str]]

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        query = parse_qs(urlsplit(self.path).query)
        wanted = query.get("scope", [""])[0].split(" ")
        self.asked.append(wanted)
        if self.headers.get("Authorization") != LOGIN.basic:
            self.send_response(401)
            self.end_headers()
            return
        token = self._token(query["service"][0], [scope.split(":") for scope in wanted if scope])
        data = json.dumps({"token": token, "expires_in": 300}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _token(self, service: str, scopes: list[list[str]]) -> str:
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec, utils

        access = [{"type": kind, "name": name, "actions": actions.split(",")} for kind, name, actions in scopes]
        now = int(time.time())
        claims = {
            "iss": "test", "sub": "me", "aud": service, "exp": now + 300, "nbf": now - 10, "iat": now, "jti": "1",
            "access": access,
        }  # fmt: skip
        head = {"typ": "JWT", "alg": "ES256", "x5c": [self.certificate]}
        text = ".".join(_unpadded(json.dumps(part).encode()) for part in (head, claims))
        r, s = utils.decode_dss_signature(self.key.sign(text.encode(), ec.ECDSA(hashes.SHA256())))
        return text + "." + _unpadded(r.to_bytes(32, "big") + s.to_bytes(32, "big"))


def _unpadded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@contextmanager
def issuer(scratch: Path) -> Iterator[tuple[str, Path, list[list[str]]]]:
    """A token service; its address, the certificates it signs under, the scopes asked of it."""
    from cryptography.hazmat.primitives import serialization

    authority, leaf, key = make_certificates(scratch)
    body = "".join(leaf.read_text().splitlines()[1:-1])
    asked: list[list[str]] = []
    loaded = serialization.load_pem_private_key(key.read_bytes(), None)
    handler = type("Bound", (Issuer,), {"key": loaded, "certificate": body, "asked": asked})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/token", authority, asked
        server.shutdown()
