"""Makes the image the examples run on: the host's static busybox, as an OCI archive.

`python examples/make_image.py DIR` writes DIR/busybox.tar (an OCI image layout in a tar), tagged
localhost/busybox:static. The bytes depend on the busybox alone, so making it twice changes nothing.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import platform
import subprocess
import sys
import tarfile
from pathlib import Path

TAG = "localhost/busybox:static"
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
DIRECTORIES = {
    "bin": 0o755, "etc": 0o755, "home": 0o755, "proc": 0o555, "root": 0o700, "sys": 0o555,
    "dev": 0o755, "run": 0o755, "tmp": 0o1777, "usr": 0o755, "usr/bin": 0o755, "var": 0o755, "www": 0o755,
}  # fmt: skip
FILES = {
    "etc/passwd": ("root:x:0:0:root:/root:/bin/sh\nwww:x:33:33::/www:/bin/false\nuser:x:1000:1000::/home:/bin/sh\n"),
    "etc/group": "root:x:0:\nwww:x:33:\nusers:x:1000:\n",
    "etc/shells": "/bin/sh\n",
    "www/index.html": "<h1>It runs.</h1>\n",
}


def find_busybox() -> Path:
    """The host's busybox, which must be static; exits with what to install otherwise."""
    for name in ("/bin/busybox", "/usr/bin/busybox", "/bin/busybox-static"):
        if Path(name).exists():
            return Path(name)
    sys.exit("cannot make the examples' image: no busybox on this machine (apt-get install busybox-static)")


def layer(busybox: Path) -> bytes:
    """One layer as an uncompressed tar with fixed times and owners."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, mode in DIRECTORIES.items():
            _add(tar, name, tarfile.DIRTYPE, mode)
        for name, text in FILES.items():
            _add(tar, name, tarfile.REGTYPE, 0o644, text.encode())
        _add(tar, "bin/busybox", tarfile.REGTYPE, 0o755, busybox.read_bytes())
        applets = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout
        for applet in sorted(set(applets.split()) - {"busybox"}):
            _add(tar, f"bin/{applet}", tarfile.SYMTYPE, 0o777, link="busybox")
    return out.getvalue()


def _add(tar: tarfile.TarFile, name: str, kind: bytes, mode: int, data: bytes = b"", link: str = "") -> None:
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.size, info.linkname, info.mtime = kind, mode, len(data), link, 1_700_000_000
    tar.addfile(info, io.BytesIO(data) if data else None)


def archive(busybox: Path) -> bytes:
    """The OCI image layout as a tar."""
    plain = layer(busybox)
    packed = gzip.compress(plain, compresslevel=6, mtime=0)
    blobs: dict[str, bytes] = {}

    def put(data: bytes, media_type: str) -> dict[str, object]:
        digest = hashlib.sha256(data).hexdigest()
        blobs[digest] = data
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}

    config = {
        "created": "2023-11-14T22:13:20Z",
        "architecture": ARCHITECTURES.get(platform.machine(), platform.machine()),
        "os": "linux",
        "config": {"Env": ["PATH=/bin:/usr/bin"], "Cmd": ["/bin/sh"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(plain).hexdigest()}"]},
        "history": [{"created": "2023-11-14T22:13:20Z", "created_by": "examples/make_image.py"}],
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": put(_json(config), "application/vnd.oci.image.config.v1+json"),
        "layers": [put(packed, "application/vnd.oci.image.layer.v1.tar+gzip")],
    }
    entry = put(_json(manifest), "application/vnd.oci.image.manifest.v1+json")
    entry["annotations"] = {"org.opencontainers.image.ref.name": TAG, "io.containerd.image.name": TAG}
    index = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [entry]}
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        _add(tar, "oci-layout", tarfile.REGTYPE, 0o644, _json({"imageLayoutVersion": "1.0.0"}))
        _add(tar, "index.json", tarfile.REGTYPE, 0o644, _json(index))
        for digest, data in blobs.items():
            _add(tar, f"blobs/sha256/{digest}", tarfile.REGTYPE, 0o644, data)
    return out.getvalue()


def _json(tree: object) -> bytes:
    return json.dumps(tree, sort_keys=True).encode()


def main(directory: str) -> None:
    """Write the archive unless it is there already; whole or not at all."""
    target = Path(directory, "busybox.tar")
    target.parent.mkdir(parents=True, exist_ok=True)
    data = archive(find_busybox())
    if target.exists() and target.read_bytes() == data:
        return
    temporary = target.with_suffix(".tmp")
    temporary.write_bytes(data)
    os.replace(temporary, target)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
