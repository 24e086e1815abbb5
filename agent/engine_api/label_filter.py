"""The filters `label` and `label!`, which every kind of object has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def labels_fit(filters: Mapping[str, Sequence[str]], labels: Mapping[str, str]) -> bool:
    """Whether `labels` has all that filter `label` names and nothing that `label!` names; "KEY" or "KEY=VALUE"."""
    wanted, unwanted = filters.get("label", ()), filters.get("label!", ())
    return all(_has(labels, text) for text in wanted) and not any(_has(labels, text) for text in unwanted)


def _has(labels: Mapping[str, str], text: str) -> bool:
    key, separator, value = text.partition("=")
    return key in labels and (not separator or labels[key] == value)
