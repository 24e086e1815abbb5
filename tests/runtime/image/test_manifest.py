"""Manifests, indexes and configurations: what is read, and forty ways of lying that are refused by name."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.errors import CorruptData, TrueupError, Unsupported
from runtime.image import manifest as m
from runtime.image.platform import Platform, best, parse

DIGEST = "sha256:" + "a" * 64
CONFIG = {"mediaType": m.OCI_CONFIG, "digest": DIGEST, "size": 10}
LAYER = {"mediaType": m.OCI_LAYER + "+gzip", "digest": DIGEST, "size": 20}
GOOD: dict[str, Any] = {"schemaVersion": 2, "mediaType": m.OCI_MANIFEST, "config": CONFIG, "layers": [LAYER]}
INDEX: dict[str, Any] = {
    "schemaVersion": 2,
    "mediaType": m.OCI_INDEX,
    "manifests": [
        {"mediaType": m.OCI_MANIFEST, "digest": DIGEST, "size": 5, "platform": {"os": "linux", "architecture": "amd64"}}
    ],
}
FOREIGN = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
KEPT_BACK = "application/vnd.oci.image.layer.nondistributable.v1.tar"
ROOTFS = {"type": "layers", "diff_ids": [DIGEST]}


def without(document: dict[str, Any], key: str) -> dict[str, Any]:
    return {k: v for k, v in document.items() if k != key}


def layer(**change: Any) -> dict[str, Any]:
    return GOOD | {"layers": [LAYER | change]}


def config(**change: Any) -> dict[str, Any]:
    return GOOD | {"config": CONFIG | change}


HOSTILE: dict[str, tuple[Any, type[TrueupError], str]] = {
    "not JSON": (b"{", CorruptData, "not JSON"),
    "an array": ([], CorruptData, "not a JSON object"),
    "a number": (1, CorruptData, "not a JSON object"),
    "nested without end": (b'{"a":' * 100_000, CorruptData, "not JSON"),
    "invalid UTF-8": (b'{"a":"\xff"}', CorruptData, "not JSON"),
    "five megabytes": (b" " * (5 << 20), CorruptData, "larger than"),
    "no schema version": (without(GOOD, "schemaVersion"), CorruptData, "schemaVersion"),
    "schema version as text": (GOOD | {"schemaVersion": "2"}, CorruptData, "schemaVersion"),
    "schema 1": ({"schemaVersion": 1, "fsLayers": []}, Unsupported, "schema 1"),
    "schema 3": (GOOD | {"schemaVersion": 3}, CorruptData, "schemaVersion"),
    "index and manifest at once": (GOOD | {"manifests": []}, CorruptData, "at once"),
    "index with a config": (INDEX | {"config": CONFIG}, CorruptData, "at once"),
    "manifest that says index": (GOOD | {"mediaType": m.OCI_INDEX}, Unsupported, "not an image"),
    "index that says manifest": (INDEX | {"mediaType": m.OCI_MANIFEST}, Unsupported, "not an image"),
    "another type": (GOOD | {"mediaType": "text/html"}, Unsupported, "not an image"),
    "type as number": (GOOD | {"mediaType": 5}, CorruptData, "mediaType is not text"),
    "no config": (without(GOOD, "config"), CorruptData, "not an object"),
    "config as text": (GOOD | {"config": DIGEST}, CorruptData, "not an object"),
    "config of an artifact": (config(mediaType="application/vnd.cncf.helm.config.v1+json"), Unsupported, "helm"),
    "config without type": (config(mediaType=""), Unsupported, "artifact"),
    "config of a gigabyte": (config(size=1 << 30), CorruptData, "configuration of"),
    "no layers": (without(GOOD, "layers"), CorruptData, "layers"),
    "layers as object": (GOOD | {"layers": {}}, CorruptData, "layers"),
    "layer as text": (GOOD | {"layers": ["x"]}, CorruptData, "not an object"),
    "600 layers": (GOOD | {"layers": [LAYER] * 600}, CorruptData, "500"),
    "a foreign layer": (layer(mediaType=FOREIGN), Unsupported, "foreign"),
    "a nondistributable layer": (layer(mediaType=KEPT_BACK), Unsupported, "cannot be unpacked"),
    "an encrypted layer": (layer(mediaType=m.OCI_LAYER + "+gzip+encrypted"), Unsupported, "cannot be unpacked"),
    "a layer without type": (layer(mediaType=""), Unsupported, "cannot be unpacked"),
    "a layer that is a manifest": (layer(mediaType=m.OCI_MANIFEST), Unsupported, "cannot be unpacked"),
    "digest missing": (layer(digest=None), CorruptData, "no sha256 digest"),
    "digest short": (layer(digest="sha256:abc"), CorruptData, "no sha256 digest"),
    "digest that climbs": (layer(digest="sha256:" + "../" * 21 + "a"), CorruptData, "no sha256 digest"),
    "digest in capitals": (layer(digest="sha256:" + "A" * 64), CorruptData, "no sha256 digest"),
    "digest with a newline": (layer(digest=DIGEST + "\n"), CorruptData, "no sha256 digest"),
    "digest of another kind": (layer(digest="md5:" + "a" * 32), CorruptData, "no sha256 digest"),
    "digest as list": (layer(digest=[DIGEST]), CorruptData, "no sha256 digest"),
    "size missing": (layer(size=None), CorruptData, "bad size"),
    "size negative": (layer(size=-1), CorruptData, "bad size"),
    "size true": (layer(size=True), CorruptData, "bad size"),
    "size fraction": (layer(size=1.5), CorruptData, "bad size"),
    "size as text": (layer(size="20"), CorruptData, "bad size"),
    "size of an exabyte": (layer(size=1 << 60), CorruptData, "bad size"),
    "annotations as list": (layer(annotations=["x"]), CorruptData, "annotations"),
    "annotation as number": (layer(annotations={"x": 1}), CorruptData, "annotations"),
    "manifests as object": (INDEX | {"manifests": {}}, CorruptData, "not a list"),
    "platform with a number": (
        INDEX | {"manifests": [INDEX["manifests"][0] | {"platform": {"os": 1}}]}, CorruptData, "os is not text"
    ),
}  # fmt: skip


def encode(document: Any) -> bytes:
    return document if isinstance(document, bytes) else json.dumps(document).encode()


def test_a_manifest_and_an_index_are_read() -> None:
    found = m.parse_document(encode(GOOD))
    assert isinstance(found, m.Manifest)
    assert [d.size for d in found.layers] == [20]
    index = m.parse_document(encode(INDEX))
    assert isinstance(index, m.Index)
    assert index.manifests[0].platform == Platform(architecture="amd64")


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_manifest(name: str) -> None:
    document, kind, saying = HOSTILE[name]
    with pytest.raises(kind) as refusal:
        m.parse_document(encode(document), name="image x")
    assert "cannot use image x" in str(refusal.value)
    assert saying in str(refusal.value)


def test_what_is_announced_must_be_what_it_is() -> None:
    with pytest.raises(CorruptData, match="announced as"):
        m.parse_document(encode(GOOD), media_type=m.DOCKER_MANIFEST)
    with pytest.raises(Unsupported, match="schema 1"):
        m.parse_document(encode(without(GOOD, "mediaType")), media_type=m.SCHEMA_1[0])


@pytest.mark.parametrize(
    ("document", "saying"),
    [
        ({}, "no rootfs"),
        ({"rootfs": []}, "no rootfs"),
        ({"rootfs": {"type": "other"}}, "no rootfs"),
        ({"rootfs": {"type": "layers", "diff_ids": "x"}}, "bad diff_ids"),
        ({"rootfs": {"type": "layers", "diff_ids": ["../../x"]}}, "bad diff_ids"),
        ({"rootfs": {"type": "layers", "diff_ids": []}}, "0 diff_ids for 1 layers"),
        ({"rootfs": ROOTFS, "config": []}, ""),
        ({"rootfs": ROOTFS, "config": "x"}, "config is not an object"),
        ({"rootfs": ROOTFS, "architecture": 7}, "architecture is not text"),
    ],
)
def test_hostile_configuration(document: dict[str, Any], saying: str) -> None:
    if not saying:
        m.parse_config(encode(document), layers=1)
        return
    with pytest.raises(CorruptData) as refusal:
        m.parse_config(encode(document), layers=1)
    assert saying in str(refusal.value)


KEYS = ["schemaVersion", "config", "layers", "manifests", "mediaType", "digest", "size", "platform", "rootfs"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(KEYS), inner),
)


@given(JSON)
def test_any_json_is_read_or_refused(value: object) -> None:
    for read in (m.parse_document, m.parse_config):
        try:
            read(json.dumps(value).encode())  # type: ignore[operator]
        except TrueupError as error:
            assert str(error).startswith("cannot use")


@pytest.mark.parametrize(
    ("wanted", "there", "chosen"),
    [
        ("linux/amd64", ["linux/arm64", "linux/amd64"], 1),
        ("linux/amd64", ["linux/amd64/v3", "linux/amd64"], 1),
        ("linux/amd64", ["linux/amd64/v3"], 0),
        ("linux/arm64", ["linux/arm64/v8"], 0),
        ("linux/arm/v6", ["linux/arm/v7", "linux/arm/v5", "linux/arm/v6"], 2),
        ("linux/arm/v6", ["linux/arm/v7", "linux/arm/v5"], 1),
        ("linux/arm/v6", ["linux/arm/v7"], None),
        ("linux/amd64", ["windows/amd64"], None),
        ("arm64", ["linux/amd64", "linux/arm64"], 1),
        ("x86_64", ["linux/amd64"], 0),
        ("linux/amd64", [], None),
    ],
)
def test_the_best_platform_is_chosen(wanted: str, there: list[str], chosen: int | None) -> None:
    assert best([parse(text) for text in there], parse(wanted)) == chosen
