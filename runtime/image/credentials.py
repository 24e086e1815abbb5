"""Logins as Docker keeps them: `config.json` with `auths`, and credential helpers.

Helpers are programs named docker-credential-*; they run with a time limit and are asked only for the registries
at hand. Blocking; call it in a thread.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
import subprocess
from typing import Any

from runtime.errors import CorruptData, Unavailable
from runtime.image.challenge import Credentials
from runtime.image.reference import DEFAULT_REGISTRY

_HUB_KEYS = ("https://index.docker.io/v1/", "index.docker.io", "docker.io", "registry-1.docker.io")
_HELPER = re.compile(r"[A-Za-z0-9_.-]+")
_HELPER_SECONDS = 20


def lookup(config_file: str, registry: str) -> Credentials:
    """The login for a registry in a Docker `config.json`; empty when there is none.

    Raises CorruptData (the file cannot be understood), Unavailable (a helper failed).
    """
    config = _read(config_file)
    helpers = config.get("credHelpers")
    keys = _keys(registry)
    for key in keys:
        if isinstance(helpers, dict) and isinstance(helpers.get(key), str):
            return _ask(helpers[key], key)
    auths = config.get("auths")
    for key in keys:
        if isinstance(auths, dict) and isinstance(auths.get(key), dict):
            found = _decode(auths[key], config_file)
            if found:
                return found
    store = config.get("credsStore")
    if isinstance(store, str) and store:
        return next((found for key in keys if (found := _ask(store, key))), Credentials())
    return Credentials()


def _keys(registry: str) -> tuple[str, ...]:
    if registry == DEFAULT_REGISTRY:
        return _HUB_KEYS
    return (registry, f"https://{registry}", f"http://{registry}", f"https://{registry}/v1/", f"https://{registry}/v2/")


def _read(config_file: str) -> dict[str, Any]:
    try:
        with open(config_file, "rb") as file:
            document = json.load(file)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise Unavailable(f"cannot read {config_file}: {error.strerror}") from error
    except ValueError as error:
        raise CorruptData(f"cannot read {config_file}: not JSON") from error
    return document if isinstance(document, dict) else {}


def _decode(entry: dict[str, Any], config_file: str) -> Credentials | None:
    username, password = entry.get("username", ""), entry.get("password", "")
    if entry.get("auth"):
        try:
            text = base64.b64decode(str(entry["auth"]), validate=True).decode()
        except (binascii.Error, UnicodeDecodeError) as error:
            raise CorruptData(f"cannot read {config_file}: an auth is not base64") from error
        username, _, password = text.partition(":")
    found = Credentials(
        username=str(username),
        password=str(password).strip("\0"),
        identity_token=str(entry.get("identitytoken", "")),
        registry_token=str(entry.get("registrytoken", "")),
    )
    return found or None


def _ask(helper: str, key: str) -> Credentials:
    if not _HELPER.fullmatch(helper):
        raise CorruptData(f"cannot use credential helper {helper!r}: not a program name")
    program = f"docker-credential-{helper}"
    try:
        done = subprocess.run(
            [program, "get"],
            input=key.encode(),
            capture_output=True,
            timeout=_HELPER_SECONDS,
            env={"PATH": os.environ.get("PATH", os.defpath), "HOME": os.environ.get("HOME", "/root")},
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f"cannot log in to {key}: {program} gave no answer in {_HELPER_SECONDS} s") from error
    except OSError as error:
        hint = "install it, or remove it from Docker's config.json"
        raise Unavailable(f"cannot log in to {key}: cannot run {program}: {error.strerror}", hint=hint) from error
    if done.returncode != 0:
        if b"credentials not found" in done.stdout:
            return Credentials()
        raise Unavailable(f"cannot log in to {key}: {program} ended with status {done.returncode}")
    return _parse_answer(done.stdout, program)


def _parse_answer(data: bytes, program: str) -> Credentials:
    try:
        answer = json.loads(data)
        username, secret = str(answer["Username"]), str(answer["Secret"])
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptData(f"cannot use the answer of {program}") from error
    if username == "<token>":
        return Credentials(identity_token=secret)
    return Credentials(username=username, password=secret)
