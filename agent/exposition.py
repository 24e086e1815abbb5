"""Metric families as text, in Prometheus' form 0.0.4 and in OpenMetrics.

The library's own writer renders the labels of every sample anew, which for containers with sixty series each is
most of a scrape; here labels that are shared are rendered once. What comes out is the same, and a test says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from prometheus_client.core import Metric
from prometheus_client.utils import floatToGoString


class Labels(dict[str, str]):
    """Labels of many samples, with their text."""

    __slots__ = ("text",)

    def __init__(self, pairs: Mapping[str, str]) -> None:
        super().__init__(pairs)
        self.text = _text(pairs)


def render(families: Iterable[Metric], *, openmetrics: bool) -> bytes:
    """Counters, gauges and histograms as text."""
    lines: list[str] = []
    for family in families:
        name = f"{family.name}_total" if family.type == "counter" and not openmetrics else family.name
        text = family.documentation
        lines.append(f"# HELP {name} {_escaped(text) if openmetrics else _without_line_ends(text)}\n")
        lines.append(f"# TYPE {name} {family.type}\n")
        for sample in family.samples:
            labels = sample.labels
            inside = labels.text if type(labels) is Labels else _text(labels) if labels else ""
            braces = f"{{{inside}}}" if inside else ""
            lines.append(f"{sample.name}{braces} {floatToGoString(sample.value)}\n")  # type: ignore[no-untyped-call]
    if openmetrics:
        lines.append("# EOF\n")
    return "".join(lines).encode()


def _text(labels: Mapping[str, str]) -> str:
    return ",".join(f'{name}="{_escaped(labels[name])}"' for name in sorted(labels))


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _without_line_ends(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n")
