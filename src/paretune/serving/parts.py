"""A value model taken apart for serving: arrays and settings by member, whatever library fitted it.

The rule: nothing here needs torch, also for models that torch fitted; one model is an ensemble of one member.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from paretune.errors import ArtefactError
from paretune.records import Floats
from paretune.surface.heads import Surface
from paretune.value.bundle import KINDS, Storable, build
from paretune.value.features import Encoder
from paretune.value.origin import Origin

_COMBINED = {"averaged", "cautious"}
_AGAIN = "train and save the model again"


@dataclass(frozen=True, slots=True)
class Member:
    """One fitted model."""

    kind: str  # smooth, replay, ridge or paper
    origin: Origin
    encoder: Encoder
    arrays: dict[str, Floats]  # by the names under which the kind stores them
    sizes: dict[str, Any]  # of the paper's network; empty for other kinds


@dataclass(frozen=True, slots=True)
class Parts:
    """Members and how their values become one."""

    members: tuple[Member, ...]
    combined: Literal["mean", "cautious"] = "mean"
    caution: float = 0.0
    signs: tuple[float, ...] = ()  # (M,) of the objectives; of a cautious ensemble

    @property
    def surface(self) -> Surface:
        """Heads and actions."""
        return self.members[0].origin.surface

    @property
    def objectives(self) -> tuple[str, ...]:
        """(M,) names."""
        return self.members[0].origin.objectives

    @property
    def encoders(self) -> tuple[Encoder, ...]:
        """Encoders of the members."""
        return tuple(member.encoder for member in self.members)


def model_parts(model: Storable) -> Parts:
    """Return the parts of a fitted model.

    Raises:
        ArtefactError: it is of a kind that cannot be served.
    """
    return stored_parts(model.name, model.arrays(), model.manifest())


def stored_parts(kind: str, arrays: dict[str, Floats], manifest: dict[str, Any]) -> Parts:
    """Return the parts of a model that `value.bundle.save_model` wrote.

    Raises:
        ArtefactError: arrays and manifest are no model of that kind, its numbers are not finite, or its members do not fit each other.
    """
    try:
        if kind not in _COMBINED:
            return Parts((_member(kind, arrays, manifest),))
        members = tuple(
            _member(entry["kind"], {name.removeprefix(f"{i}/"): array for name, array in arrays.items() if name.startswith(f"{i}/")}, entry)
            for i, entry in enumerate(manifest["members"])
        )
        if kind == "averaged":
            parts = Parts(members)
        else:
            signs = tuple(float(sign) for sign in manifest["signs"])
            parts = Parts(members, "cautious", float(manifest["caution"]), signs)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise ArtefactError(f"these are not the arrays and manifest of a {kind} model: {error!r}", hint=_AGAIN) from error
    first = parts.members[0] if parts.members else None
    alike = first is not None and all(
        (member.origin.config.surface, member.origin.objectives, member.origin.config.features)
        == (first.origin.config.surface, first.origin.objectives, first.origin.config.features)
        for member in parts.members
    )
    if not alike or (parts.combined == "cautious" and (len(parts.members) < 2 or len(parts.signs) != len(parts.objectives))):
        raise ArtefactError(f"the members of the {kind} model do not fit each other", hint="train all with the same configuration")
    return parts


def _member(kind: str, arrays: dict[str, Floats], manifest: dict[str, Any]) -> Member:
    if kind not in KINDS or kind in _COMBINED:
        raise ArtefactError(f"a model of kind {kind!r} cannot be served", hint=f"choose one of {sorted(set(KINDS) - _COMBINED)}")
    if kind == "paper":  # its own module needs torch
        wrong = [name for name, array in arrays.items() if not np.isfinite(array).all()]
        if wrong:
            raise ArtefactError(f"arrays {wrong} of the paper model hold NaN or infinity", hint=_AGAIN)
        origin, encoder = Origin.from_manifest(manifest["origin"]), Encoder.from_manifest(manifest["encoder"])
        return Member(kind, origin, encoder, dict(arrays), dict(manifest["sizes"]))
    checked: Any = build(kind, arrays, manifest)
    return Member(kind, checked.origin, checked.encoder, checked.arrays(), {})
