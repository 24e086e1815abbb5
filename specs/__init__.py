"""What the user wrote: Compose files as frozen values. Pure; imports nobody."""

from specs.load import Loaded, load
from specs.problem import Problem
from specs.project import Project
from specs.service import Service
from specs.source import discover

__all__ = ["Loaded", "Problem", "Project", "Service", "discover", "load"]
