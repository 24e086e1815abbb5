"""Cross references of a project: what one part says must fit what the others say.

Runs on the completed tree, so that it finds its faults even where a model has some of its own, and
each at the place that was written. One function per rule; here is the table of them.
"""

from __future__ import annotations

from collections.abc import Callable

from specs import check_network, check_service
from specs.checker import Check
from specs.document import Node
from specs.problem import Problems

RULES: tuple[Callable[[Check], None], ...] = (
    check_service.keys,
    check_service.texts,
    check_service.variables,
    check_service.images,
    check_network.networks,
    check_network.host_names,
    check_network.addresses,
    check_service.volumes,
    check_service.file_objects,
    check_service.externals,
    check_service.dependencies,
    check_network.ports,
    check_service.names,
    check_service.probes,
    check_service.logs,
    check_service.security,
)


def check(tree: Node, problems: Problems, disabled: frozenset[str] = frozenset()) -> None:
    """Note every contradiction; services in `disabled` do not run, and are not asked about."""
    context = Check(tree, problems, disabled)
    for rule in RULES:
        rule(context)
