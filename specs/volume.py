"""Named volumes of a project (the top-level `volumes` section), in Compose's long form."""

from __future__ import annotations

from specs.types import EMPTY, Boolean, Labels, Model, StringMap


class Volume(Model):
    """A named volume; `name` is the name the runtime knows, filled in by the loader."""

    name: str = ""
    driver: str | None = None
    driver_opts: StringMap = EMPTY
    external: Boolean = False
    labels: Labels = EMPTY
