"""Fronts as the pages show them, decoded once each. An edge: the database.

The rule: what is kept is found by the hash of its content, so that it never needs to be read again.
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np

from paretune.errors import ArtefactError, SurfaceError
from paretune.frontier.archive import decode_front
from paretune.frontier.front import Front
from paretune.policy.operating import OperatingPolicy
from paretune.policy.registry import Registry
from paretune.records import Floats
from paretune.surface.heads import Head, Surface

_MOST = 16  # fronts kept
_SERVING = "serving.json"  # of a bundle; holds the actions


@dataclass(frozen=True, slots=True)
class Shown:
    """A front with what its pictures need."""

    fingerprint: str
    front: Front
    heads: tuple[str, ...]  # (m,)
    static: tuple[float, ...]  # (m,)
    hold_out: tuple[str, ...]  # first and last day; empty where the run does not say
    surface: Surface | None  # None where the grid is not one of levels


class Fronts:
    """Fronts of one registry; for any number of threads."""

    def __init__(self) -> None:
        """Keep nothing yet."""
        self._kept: OrderedDict[str, Shown] = OrderedDict()
        self._lock = threading.Lock()

    def shown(self, registry: Registry, fingerprint: str) -> Shown:
        """Return a front.

        Raises:
            NotFoundError: there is none.
            ArtefactError: it was altered.
        """
        with self._lock:
            if fingerprint in self._kept:
                self._kept.move_to_end(fingerprint)
                return self._kept[fingerprint]
        document, _ = registry.front(fingerprint)
        beside = registry.beside(fingerprint)
        front = decode_front(document, source=f"front {fingerprint[:12]}")
        if front.mean_weights.shape[1:] != (len(beside.heads),):
            raise ArtefactError(
                f"front {fingerprint[:12]} is of other heads than its policies", hint="publish the policy again, with its run"
            )
        found = Shown(fingerprint, front, beside.heads, beside.static, beside.evidence.hold_out, _surface(registry, beside))
        if not beside.bundle:  # one with a model, which says more, may be published yet
            return found
        with self._lock:
            self._kept[fingerprint] = found
            while len(self._kept) > _MOST:
                self._kept.popitem(last=False)
        return found


def _surface(registry: Registry, policy: OperatingPolicy) -> Surface | None:
    if not policy.bundle:
        return None
    notes = json.loads(registry.bundle(policy.bundle).get(_SERVING, b"{}"))
    actions = np.array(notes.get("actions", []), dtype=np.float64)
    return surface_of(policy.heads, np.array(policy.static), actions) if actions.ndim == 2 else None


def surface_of(heads: tuple[str, ...], static: Floats, actions: Floats) -> Surface | None:
    """Return the surface whose grid these actions are; None where they are no full grid.

    Args:
        heads: (m,) names.
        static: (m,) production weights.
        actions: (K, m), production first.
    """
    levels = [tuple(np.unique(column).tolist()) for column in actions[1:].T]
    try:
        surface = Surface(
            tuple(
                Head(name, float(weight), steps if len(steps) > 1 else ())
                for name, weight, steps in zip(heads, static, levels, strict=True)
            ),
            k=1,  # no picture of weights depends on it
        )
        whole = len(surface) == len(actions)  # before the grid is made: of scattered actions it would be beyond any memory
    except (SurfaceError, ValueError):
        return None
    return surface if whole and np.allclose(surface.actions, actions) else None
