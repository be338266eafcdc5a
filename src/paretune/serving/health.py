"""What a runtime says of itself, for health checks, metrics and people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RuntimeState:
    """What health checks and metrics ask for."""

    plan: int  # version in force, 0 = none
    fingerprint: str  # of the plan in force
    killed: bool
    bundles: tuple[str, ...]  # fingerprints that are loaded and in use
    breakers: Mapping[str, str]  # fingerprint -> closed, open, half-open
    threads: int  # of the model
    busy: int  # of them, also those that are stuck
    problems: tuple[str, ...]  # of plan files, bundles and the last known good copy, newest first; empty = all is well
    unmet: tuple[str, ...] = ()  # those of them that keep a part of the plan in force from being followed

    @property
    def ready(self) -> bool:
        """Whether a plan is in force and all of it can be followed; a plan file that cannot be read takes nothing from that."""
        return self.plan > 0 and not self.unmet
