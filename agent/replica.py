"""One replica of a service as the differ sees it: a value that says what to do, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from agent import compare
from agent.compare import FieldChange
from agent.views import ChangeClass
from runtime.engine.model import Container, ContainerConfig, EndpointConfig

Action = Literal["keep", "create", "start", "update", "restart", "replace", "wait"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaDiff:
    """One replica: what it should be, what there is, what to do and why.

    `draft` is the container made to take `container`'s place; `due` is when a waiting action may happen.
    """

    number: int
    wanted: ContainerConfig
    action: Action
    cause: str
    container: Container | None = None
    draft: Container | None = None
    changes: tuple[FieldChange, ...] = ()
    stays: tuple[FieldChange, ...] = ()  # differences that the spec ignores: in place they are left alone
    join: tuple[EndpointConfig, ...] = ()
    leave: tuple[str, ...] = ()
    due: float = 0.0
    ours: bool = False  # to start is to undo a stop of our own
    drifted: bool = False
    by: str = "somebody else"  # who changed what drifted, as far as it is known
    drift: tuple[str, ...] = ()  # kernel objects, and fields where they are only told
    healed: bool = True  # drift is acted upon

    @property
    def cls(self) -> ChangeClass:
        """The class of the whole replica."""
        return compare.worst(tuple(c.cls for c in self.changes))
