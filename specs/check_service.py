"""Rules about services: what they run, mount, wait for, and are called."""

from __future__ import annotations

import re
from collections.abc import Iterator

from specs import log_options
from specs.checker import Check, items, replicas
from specs.document import Node
from specs.problem import did_you_mean

_NAME = re.compile(r"[a-zA-Z0-9._-]{1,200}")
_SECURITY = ("no-new-privileges", "seccomp", "apparmor", "label", "systempaths")


def keys(check: Check) -> None:
    """Names are ones that containers, networks and host names can have."""
    for section in ("services", "networks", "volumes", "configs", "secrets"):
        node = check.section(section)
        for key in node.map:
            if _NAME.fullmatch(key) is None:
                message = f"cannot call {section.removesuffix('s')} {key[:60]!r}"
                check.problems.add(node.key_at(key), message, "letters, digits, and . _ -")


def variables(check: Check) -> None:
    """Environment variables have names."""
    for _, service in check.active():
        given = service.get("environment")
        if given is not None and "" in given.map:
            message = "cannot use an environment variable without a name"
            check.problems.add(given.keys.get("", given.at), message, "write NAME=value")


def texts(check: Check) -> None:
    """Variables of the agent's environment may hold any bytes; a document is text."""
    left = [check.tree]
    while left:
        node = left.pop()
        left += [*node.map.values(), *node.items]
        if any(map(_broken, (node.text, *node.map))):
            message = "cannot use a text with bytes that are not UTF-8"
            check.problems.add(node.at, message, "a variable of the environment has them")


def _broken(text: str) -> bool:
    return not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text)


def images(check: Check) -> None:
    """A service has something to run."""
    for name, service in check.active():
        if not isinstance(service.value, dict):
            continue
        image, build = service.get("image"), service.get("build")
        if build is None and (image is None or image.value in ("", None)):
            at = check.section("services").key_at(name) if image is None else image.at
            check.problems.add(at, f'cannot run service "{name}": it has neither image nor build')
        policy = service.get("pull_policy")
        if policy is not None and policy.value == "build" and build is None:
            check.problems.add(policy.at, "cannot use pull_policy build: the service has no build")


def volumes(check: Check) -> None:
    """Named volumes exist and are local; nothing is mounted twice at one place."""
    for _, service in check.active():
        for mount in items(service, "volumes"):
            source, kind = mount.get("source"), mount.get("type")
            if source is not None and kind is not None and kind.value == "volume":
                check.named(source, source.text, "volumes", "volume")
        targets = [Node(mount.text.partition(":")[0], mount.at) for mount in items(service, "tmpfs")]
        for section in ("volumes", "configs", "secrets"):
            targets += [item.map["target"] for item in items(service, section) if "target" in item.map]
        _once(check, sorted(targets, key=lambda node: node.at))
    for key, volume in check.section("volumes").map.items():
        driver = volume.get("driver")
        if driver is not None and driver.text not in ("", "local"):
            message = f'cannot use driver {driver.text!r} for volume "{key}": only local is known'
            check.problems.add(driver.at, message, "NFS and others are options of the local driver: type, o, device")


def _once(check: Check, targets: list[Node]) -> None:
    seen: dict[str, int] = {}
    for target in targets:
        path = target.text.rstrip("/") or "/"
        if path in seen and target.text:
            check.problems.add(target.at, f"cannot mount twice at {path}: line {seen[path]} does already")
        seen.setdefault(path, target.at.line)


def file_objects(check: Check) -> None:
    """Configs and secrets exist, and each has exactly one source."""
    for _, service in check.active():
        for section, what in (("configs", "config"), ("secrets", "secret")):
            references = list(items(service, section))
            build = service.get("build", section)
            for reference in references + (build.items if build is not None else []):
                source = reference.get("source")
                if source is not None:
                    check.named(source, source.text, section, what)
    for section, kinds in (("configs", ("file", "environment", "content")), ("secrets", ("file", "environment"))):
        for key, node in check.section(section).map.items():
            given = [kind for kind in kinds if node.get(kind) is not None]
            if len(given) != 1 and isinstance(node.value, dict) and not _external(node):
                known = ", ".join(kinds)
                what = f"{' and '.join(given)} together" if given else "nothing"
                at = check.section(section).key_at(key)
                check.problems.add(at, f'cannot take "{key}" from {what}: give exactly one of {known}')


def _external(node: Node) -> bool:
    external = node.get("external")
    return external is not None and external.value in (True, "true")


def externals(check: Check) -> None:
    """What is external is made by somebody else, so nothing else can be said about it."""
    for section in ("networks", "volumes", "configs", "secrets"):
        for node in check.section(section).map.values():
            if not _external(node):
                continue
            for key in node.map:
                if key not in ("external", "name") and not key.startswith("x-"):
                    check.problems.add(node.key_at(key), f"cannot set {key} of what is external")


def dependencies(check: Check) -> None:
    """Services depended upon exist; nobody waits for himself, however indirectly."""
    graph: dict[str, list[str]] = {}
    for name, service in check.active():
        depends = service.get("depends_on")
        graph[name] = []
        for target, node in (depends.map if depends is not None else {}).items():
            required = node.get("required")
            if target not in check.services or target in check.disabled:
                if required is None or required.value is not False:
                    place = depends.key_at(target) if depends is not None else node.at
                    check.service_named(Node(None, place), target, "depend on")
            else:
                graph[name].append(target)
        for key in ("pid", "ipc", "uts"):
            mode = service.get(key)
            if mode is not None and mode.text.startswith("service:"):
                check.service_named(mode, mode.text.removeprefix("service:"), f"share the {key} namespace of")
    cycle = find_cycle(graph)
    if cycle:
        depends = check.services[cycle[0]].get("depends_on")
        at = depends.key_at(cycle[1]) if depends is not None else check.services[cycle[0]].at
        check.problems.add(at, f"cannot order the services: {_arrows(cycle)} wait for each other")


def _arrows(cycle: list[str]) -> str:
    shown = cycle if len(cycle) <= 12 else [*cycle[:8], "…", *cycle[-3:]]
    return " → ".join(shown)


def find_cycle(graph: dict[str, list[str]]) -> list[str]:
    """A path that ends where it began, or nothing. Iterative: chains can be long."""
    done: set[str] = set()
    for start in graph:
        trail: dict[str, Iterator[str]] = {}
        name: str | None = start
        while name is not None:
            if name not in trail:
                trail[name] = iter(graph.get(name, ()))
            following = next((target for target in trail[name] if target not in done), None)
            if following is None:
                done.add(name)
                del trail[name]
                name = next(reversed(trail), None)
            elif following in trail:
                names = list(trail)
                return [*names[names.index(following) :], following]
            else:
                name = following
    return []


def names(check: Check) -> None:
    """A container's name is given once, and only to one container."""
    taken: dict[str, str] = {}
    for name, service in check.active():
        given = service.get("container_name")
        if given is None or not given.text:
            continue
        if given.text in taken:
            message = f'cannot name the container "{given.text}" twice: service "{taken[given.text]}" has it'
            check.problems.add(given.at, message)
        taken[given.text] = name
        if replicas(service) > 1:
            message = f'cannot name {replicas(service)} replicas "{given.text}"'
            check.problems.add(given.at, message, "remove container_name")


def logs(check: Check) -> None:
    """Logs are written by us, so only our ways of writing them are known."""
    for _, service in check.active():
        driver, options = service.get("logging", "driver"), service.get("logging", "options")
        name = (driver.text if driver is not None else "") or "json-file"
        if driver is not None and name not in log_options.DRIVERS:
            message = f"cannot use log driver {name!r}: known are {', '.join(log_options.DRIVERS)}"
            check.problems.add(driver.at, message, "a shipper reads json-file from the host")
        elif options is not None:
            _log_options(check, name, options)


def _log_options(check: Check, driver: str, options: Node) -> None:
    carried = log_options.DRIVERS[driver]
    for option, value in options.map.items():
        if option not in carried:
            why = log_options.REFUSED.get(option, f"known are {', '.join(carried) or 'none'}")
            message = f'cannot use log option "{option}" with driver {driver}: {why}'
            check.problems.add(options.key_at(option), message, did_you_mean(option, carried))
        elif complaint := log_options.complaint(option, value.text):
            check.problems.add(value.at, f"cannot use {value.text[:60]!r} as log option {option}: {complaint}")


def security(check: Check) -> None:
    """Security options are known ones."""
    for _, service in check.active():
        for option in items(service, "security_opt"):
            name = option.text.replace("=", ":", 1).partition(":")[0]
            if option.text and name not in _SECURITY:
                check.problems.add(option.at, f"cannot use security_opt {option.text!r}", did_you_mean(name, _SECURITY))


def probes(check: Check) -> None:
    """One way of telling health: the image's tool or our probe."""
    for _, service in check.active():
        probe, test = service.get("x-trueup", "probe"), service.get("healthcheck", "test")
        if probe is not None and test is not None:
            check.problems.add(probe.at, "cannot use both healthcheck and x-trueup.probe: keep one")
