"""What is: one snapshot of the runtime, indexed. It records duplicates and orphans; the differ decides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from operator import is_

from agent import labels
from runtime.engine.model import Container, Image, Network, Snapshot, Volume
from runtime.errors import InvalidInput
from runtime.image.reference import parse

Services = Mapping[str, tuple[Container, ...]]
_FEW = 8  # of so many containers one may change without all being indexed anew


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """A snapshot by the keys planning asks for. `services` holds only containers that are ours."""

    snapshot: Snapshot
    services: Services  # by "project/service"
    projects: Mapping[str, Services]  # the same by project, then by "project/service"
    foreign: tuple[Container, ...]  # made through the API: nobody's spec
    names: Mapping[str, Container]
    networks: Mapping[str, Network]
    networks_of: Mapping[str, tuple[str, ...]]  # names by the project that made them
    volumes: Mapping[str, Volume]
    images: Mapping[str, Image]  # by tag, digest and id

    @property
    def taken_at(self) -> float:
        """When, in seconds since the epoch."""
        return self.snapshot.taken_at

    def image(self, reference: str) -> Image | None:
        """The image a reference means here, now."""
        return self.images.get(reference) or self.images.get(full_name(reference))

    def of_project(self, name: str) -> Services:
        """The containers of one project by service key."""
        return self.projects.get(name, {})


def observe(snapshot: Snapshot, before: Observed | None = None) -> Observed:
    """Index one snapshot; where it holds the very values of an earlier one, that one's indexes are taken over."""
    made: Observed | None = None
    if before is not None:
        made = _containers_since(before, snapshot)
    if made is None:
        made = _containers(snapshot)
    known = before.snapshot if before is not None else Snapshot(taken_at=0.0)
    if before is not None and _same(known.networks, snapshot.networks):
        made = replace(made, networks=before.networks, networks_of=before.networks_of)
    else:
        made = replace(made, networks={n.name: n for n in snapshot.networks}, networks_of=_by_maker(snapshot))
    if before is not None and _same(known.images, snapshot.images):
        made = replace(made, images=before.images)
    else:
        made = replace(made, images=_by_every_name(snapshot))
    return replace(made, volumes={v.name: v for v in snapshot.volumes})


def _containers(snapshot: Snapshot) -> Observed:
    """The containers of a snapshot indexed, nothing else."""
    services: dict[str, list[Container]] = {}
    for container in snapshot.containers:
        owner = container.config.labels.get(labels.OWNER, "")
        services.setdefault(owner, []).append(container)
    foreign = tuple(services.pop("", ()))
    found = {key: tuple(of_it) for key, of_it in services.items()}
    projects: dict[str, dict[str, tuple[Container, ...]]] = {}
    for key, of_it in found.items():
        projects.setdefault(_project(key), {})[key] = of_it
    return Observed(
        snapshot=snapshot,
        services=found,
        projects=projects,
        foreign=foreign,
        names={c.config.name: c for c in snapshot.containers},
        networks={},
        networks_of={},
        volumes={},
        images={},
    )


def _containers_since(before: Observed, snapshot: Snapshot) -> Observed | None:
    """The same by patching an earlier index; None where too much is new."""
    old, new = before.snapshot.containers, snapshot.containers
    if _same(old, new):
        return replace(before, snapshot=snapshot)
    had, have = set(map(id, old)), set(map(id, new))
    came, went = [c for c in new if id(c) not in had], [c for c in old if id(c) not in have]
    if (len(came) + len(went)) * _FEW > len(new):
        return None
    names, services, projects = dict(before.names), dict(before.services), dict(before.projects)
    for container in went:
        names.pop(container.name, None)
    names.update((c.name, c) for c in came)
    touched = {c.config.labels.get(labels.OWNER, "") for c in (*came, *went)}
    groups: dict[str, list[Container]] = {owner: [] for owner in touched}
    for container in new:
        owner = container.config.labels.get(labels.OWNER, "")
        if owner in touched:
            groups[owner].append(container)
    foreign = tuple(groups.pop("")) if "" in groups else before.foreign
    for key, found in groups.items():
        _put(services, projects, key, tuple(found))
    return replace(before, snapshot=snapshot, names=names, services=services, projects=projects, foreign=foreign)


def _put(
    services: dict[str, tuple[Container, ...]], projects: dict[str, Services], key: str, found: tuple[Container, ...]
) -> None:
    """One service's containers in both indexes; none of them leaves no trace."""
    project = _project(key)
    mine = {k: v for k, v in projects.get(project, {}).items() if k != key} | ({key: found} if found else {})
    services.pop(key, None)
    if found:
        services[key] = found
    projects.pop(project, None)
    if mine:
        projects[project] = mine


def _by_maker(snapshot: Snapshot) -> dict[str, tuple[str, ...]]:
    made: dict[str, tuple[str, ...]] = {}
    for network in snapshot.networks:
        if project := network.config.labels.get(labels.OWNER_PROJECT):
            made[project] = (*made.get(project, ()), network.name)
    return made


def _by_every_name(snapshot: Snapshot) -> dict[str, Image]:
    images = {i.id: i for i in snapshot.images}
    images.update({name: i for i in snapshot.images for name in (*i.tags, *i.digests)})
    return images


def _same(old: tuple[object, ...], new: tuple[object, ...]) -> bool:
    """Whether two hold the very same values."""
    return len(old) == len(new) and all(map(is_, old, new))


def _project(key: str) -> str:
    return key.partition("/")[0]


_full_names: dict[str, str] = {}


def full_name(reference: str) -> str:
    """Docker's long form of a reference; what cannot be parsed stays as it is and is found nowhere."""
    if reference not in _full_names:
        try:
            _full_names[reference] = str(parse(reference))
        except InvalidInput:
            _full_names[reference] = reference
    return _full_names[reference]


def number_of(container: Container) -> int:
    """Which replica of its service a container is; 0 when its label does not say."""
    text = container.config.labels.get(labels.NUMBER, "")
    return int(text) if text.isdigit() else 0


def hash_of(container: Container) -> str:
    """The digest of the spec a container was made from."""
    return container.config.labels.get(labels.CONFIG_HASH, "")
