"""Every hostile manifest and every registry that keeps doing wrong, by a whole pull: refused in words, nothing kept.

The verdicts as a table, with the error a person sees, are in tests/golden/hostile-registries.txt;
`TU_GOLDEN=write pytest tests/runtime/image/test_hostile_registries.py` writes it anew; read the diff.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.errors import TrueupError
from runtime.image import manifest as m
from tests import golden_text
from tests.runtime.image import registry_fake as f
from tests.runtime.image.test_faults import FATAL, WRONG_DOCUMENTS
from tests.runtime.image.test_manifest import HOSTILE, encode
from tests.runtime.image.world import Site, digest_of, make

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="privileged: workers confine themselves, which takes root")
GOLDEN = Path(__file__).parents[2] / "golden/hostile-registries.txt"
IMAGE = make({"file": bytes(range(256)) * 40}, {"other": b"x"}, Cmd=["/file"])


def registries() -> Iterator[tuple[str, f.FakeRegistry]]:
    """(name, a registry not yet started that offers app:1 and means harm)."""
    for name, (document, _, _) in HOSTILE.items():
        data = encode(document)
        yield f"manifest: {name}", f.FakeRegistry(manifests={"app:1": (data, m.OCI_MANIFEST)})
    for name, (data, kind, _) in WRONG_DOCUMENTS.items():
        yield f"document: {name}", f.FakeRegistry(manifests={"app:1": (data, kind)})
    offered = {f"app:{selector}": (IMAGE.manifest, m.OCI_MANIFEST) for selector in ("1", IMAGE.digest)}
    places = {
        "layer": f"blobs/{digest_of(IMAGE.layers[0])}",
        "configuration": f"blobs/{IMAGE.id}",
        "manifest": "/manifests/",
    }
    for place, pattern in places.items():
        for name, (faults, _) in FATAL.items():
            lasting = {pattern: [*faults, *[faults[-1]] * 99]}
            found = f.FakeRegistry(blobs=dict(IMAGE.blobs), manifests=dict(offered), faults=lasting)
            yield f"{place}: {name}", found


def verdict(site: Site, registry: f.FakeRegistry) -> str:
    """What became of a pull, without what differs from run to run."""

    async def run() -> str:
        try:
            found = await site.images.pull(f"{registry.host}/app:1")
            return "harmless: the right image" if found.id == IMAGE.id else "another image"
        except TrueupError as error:
            return f"refused: {error}"
        finally:
            await site.close()

    return asyncio.run(run()).replace(registry.host, "HOST")


def test_every_verdict(scratch: Path) -> None:
    lines = []
    for name, registry in registries():
        site = Site(scratch / "site", unpacks=False)
        with registry:
            said = verdict(site, registry)
        if said == "harmless: the right image":
            lines.append(f"{name:<50} {said}")
            shutil.rmtree(scratch / "site")
            continue
        assert said.startswith("refused: cannot "), (name, said)
        assert re.search(r"HOST|\bapp\b|sha256:", said), f"{name}: it names neither registry nor image: {said}"
        assert "Errno" not in said and "Traceback" not in said, (name, said)
        assert site.images.list() == (), name
        assert site.stored() <= set(IMAGE.blobs), name
        assert all("/partial-" in path or "/unsettled-" in path for path in site.rubbish()), name
        lines.append(f"{name:<50} {said}")
        shutil.rmtree(scratch / "site")
    assert len(lines) >= 40 and len({line[:50] for line in lines}) == len(lines)
    table = "".join(line.encode("unicode_escape").decode() + "\n" for line in lines)
    golden_text.agrees(GOLDEN, table)
