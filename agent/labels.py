"""Labels that tie what the runtime holds to the specs.

Compose's own labels are kept, so that dashboards and `docker compose ps` recognise our containers; what makes
an object *ours* is `io.trueup.service` or `io.trueup.project` alone: a Compose client on our API uses the
others too, and its containers are nobody's spec.
"""

from __future__ import annotations

PROJECT = "com.docker.compose.project"
SERVICE = "com.docker.compose.service"
NUMBER = "com.docker.compose.container-number"
CONFIG_HASH = "com.docker.compose.config-hash"
ONEOFF = "com.docker.compose.oneoff"
WORKING_DIR = "com.docker.compose.project.working_dir"
CONFIG_FILES = "com.docker.compose.project.config_files"
DEPENDS_ON = "com.docker.compose.depends_on"
VERSION = "com.docker.compose.version"
NETWORK = "com.docker.compose.network"
VOLUME = "com.docker.compose.volume"

OWNER = "io.trueup.service"  # "project/service", on containers
OWNER_PROJECT = "io.trueup.project"  # on networks and volumes

COMPOSE_VERSION = "2.40.0"  # what clients of Compose expect to read
ABOUT_US = "com.docker.compose."
OURS = "io.trueup."


def is_meta(label: str) -> bool:
    """Whether we wrote the label, not the person."""
    return label.startswith((ABOUT_US, OURS))
