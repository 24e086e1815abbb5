"""Names: Docker's normal form, and what is said about names that are wrong."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.errors import InvalidInput
from runtime.image import reference as r

DIGEST = "sha256:" + "a" * 64

NORMAL = {
    "alpine": ("docker.io/library/alpine:latest", "alpine:latest"),
    "alpine:3.20": ("docker.io/library/alpine:3.20", "alpine:3.20"),
    "docker.io/alpine": ("docker.io/library/alpine:latest", "alpine:latest"),
    "index.docker.io/library/alpine": ("docker.io/library/alpine:latest", "alpine:latest"),
    "grafana/grafana": ("docker.io/grafana/grafana:latest", "grafana/grafana:latest"),
    "docker.io/library/a/b": ("docker.io/library/a/b:latest", "library/a/b:latest"),
    "ghcr.io/a/b/c:v1": ("ghcr.io/a/b/c:v1", "ghcr.io/a/b/c:v1"),
    "localhost/x": ("localhost/x:latest", "localhost/x:latest"),
    "localhost:5000/x": ("localhost:5000/x:latest", "localhost:5000/x:latest"),
    "127.0.0.1:5000/x/y:t": ("127.0.0.1:5000/x/y:t", "127.0.0.1:5000/x/y:t"),
    "[::1]:5000/x": ("[::1]:5000/x:latest", "[::1]:5000/x:latest"),
    "Upper/x": ("Upper/x:latest", "Upper/x:latest"),
    f"alpine@{DIGEST}": (f"docker.io/library/alpine@{DIGEST}", f"alpine@{DIGEST}"),
    f"alpine:3@{DIGEST}": (f"docker.io/library/alpine:3@{DIGEST}", f"alpine:3@{DIGEST}"),
    "a__b/c.d-e": ("docker.io/a__b/c.d-e:latest", "a__b/c.d-e:latest"),
}

WRONG = {
    "": "no repository name",
    "Alpine": "lower case",
    "alpine:": "no tag",
    "alpine:-x": "no tag",
    "alpine:" + "t" * 129: "no tag",
    "alpine@sha256:abc": "no sha256 digest",
    "alpine@md5:" + "a" * 32: "no sha256 digest",
    "alpine@": "no sha256 digest",
    "-a/b": "no repository name",
    "a//b": "no repository name",
    "a/../b": "no repository name",
    "../etc": "no registry",
    "a b": "no repository name",
    "https://x.io/a": "no registry",
    "x.io/": "no repository name",
    "x.io:port/a": "no registry",
    "a" * 64: "image id",
    "x.io/" + "a" * 256: "longer than 255",
    "al\npine": "no repository name",
    "alpine:3\n": "no tag",
    "ａlpine": "no repository name",
}


@pytest.mark.parametrize("text", NORMAL)
def test_normal_form(text: str) -> None:
    found = r.parse(text)
    assert (str(found), found.familiar) == NORMAL[text]
    assert r.parse(str(found)) == found
    assert r.parse(found.familiar) == found


@pytest.mark.parametrize("text", WRONG)
def test_wrong_names_say_why(text: str) -> None:
    with pytest.raises(InvalidInput, match="cannot use") as refusal:
        r.parse(text)
    assert WRONG[text] in str(refusal.value)


@given(st.text(max_size=80))
def test_any_text_is_a_name_or_an_error_and_names_are_stable(text: str) -> None:
    try:
        found = r.parse(text)
    except InvalidInput:
        return
    assert r.parse(str(found)) == found
    assert "/" not in found.tag
    assert ".." not in found.repository.split("/")


def test_ids_and_their_prefixes() -> None:
    assert r.id_prefix("a" * 64) == "a" * 64
    assert r.id_prefix("sha256:abcd1") == "abcd1"
    assert r.id_prefix("alpine") == ""
    assert r.id_prefix("abc") == ""
