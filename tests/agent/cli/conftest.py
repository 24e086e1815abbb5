"""The API server of the engine_api tests, for commands to talk to."""

from __future__ import annotations

from tests.agent.engine_api.conftest import served, serving

__all__ = ["served", "serving"]
