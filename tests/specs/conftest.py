"""Generated cases of the language take as long as the machine needs."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("specs", deadline=None)
settings.load_profile("specs")
