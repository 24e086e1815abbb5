"""When an image is fetched: before anything is made from it, and as its pull policy says. Pure."""

from __future__ import annotations

from agent.desired import DesiredService
from agent.diff import ServiceDiff
from agent.facts import Facts
from agent.steps import PullImage, Step

_SAME_CHANGE = 60.0  # `always` asks once per change, not once per round of the same change


def pull_steps(diff: ServiceDiff, facts: Facts) -> list[Step]:
    """The pull a service needs now, if any."""
    service = diff.service
    if service.pull_policy in ("never", "build"):
        return []
    making = any(r.action in ("create", "replace") and r.draft is None for r in diff.replicas)
    why = _why(service, diff, facts, making=making)
    if not why:
        return []
    return [
        PullImage(
            project=service.project,
            target=service.config.image,
            cause=f"{service.key} needs it; {why}",
            platform=service.config.platform,
        )
    ]


def unbuilt(diff: ServiceDiff) -> str:
    """Why a service that is built cannot start now, to a person; "" when it can."""
    service, image = diff.service, diff.service.config.image
    making = any(r.action in ("create", "replace") and r.draft is None for r in diff.replicas)
    if service.pull_policy != "build" or diff.image_id or not making:
        return ""
    return (
        f"cannot start: its image {image} is not here, and building is not carried out yet; "
        f"build it elsewhere (docker build -t {image} …) and bring it with `trueup load`, or set image"
    )


def _why(service: DesiredService, diff: ServiceDiff, facts: Facts, *, making: bool) -> str:
    if making and not diff.image_id:
        return "it is not here"
    since = facts.now - facts.pulled.get(service.config.image, 0.0)
    if making and service.pull_policy == "always" and since > _SAME_CHANGE:
        return "pull_policy always"
    if service.refresh_after and since > service.refresh_after and not service.config.image_id:
        return f"pull_policy {service.pull_policy}"
    return ""


def due(service: DesiredService, facts: Facts) -> float:
    """When a refreshing policy asks the registry again; 0.0 for never."""
    if not service.refresh_after:
        return 0.0
    return facts.pulled.get(service.config.image, 0.0) + service.refresh_after
