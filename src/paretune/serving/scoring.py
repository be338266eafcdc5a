"""The port between the decision and a value model: features in, the chosen action out.

Laws, held by one contract suite: `choose` is deterministic and independent of other requests; a feature that is wrong is named, never
guessed at; the action is the first of the largest scalarised values over the grid (production excluded, as in `frontier.sweep.choose`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from paretune.errors import DataError
from paretune.records import Floats

Inputs = Mapping[str, Any]
"""Feature name -> array with a leading axis of one request, checked and cast as the model reads it."""


class FeatureError(DataError):
    """A request's feature is absent, or is not what the model reads."""

    def __init__(self, feature: str, problem: str, *, missing: bool = False) -> None:
        super().__init__(f"feature {feature!r} {problem}", hint="send the feature as the bundle's manifest describes it")
        self.feature = feature
        self.missing = missing


@dataclass(frozen=True, slots=True)
class Choice:
    """What a model says of one request."""

    action: int  # index into the actions, >= 1
    values: Floats  # (K, M) in relative-lift units, larger is better


class Scorer(Protocol):
    """A loaded bundle."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the bundle's checksums; what plans name it by."""
        ...

    @property
    def heads(self) -> tuple[str, ...]:
        """(m,) names, in the order of the weights."""
        ...

    @property
    def objectives(self) -> tuple[str, ...]:
        """(M,) names, in the order of a scalarisation."""
        ...

    @property
    def actions(self) -> Floats:
        """(K, m) full weight vectors, production first."""
        ...

    def read(self, features: Mapping[str, Any]) -> Inputs:
        """Return the model's inputs of one request.

        Raises:
            FeatureError: naming the feature.
        """
        ...

    def choose(self, inputs: Inputs, scalarisation: Floats) -> Choice:
        """Return the action for a scalarisation (M,), and all values.

        Raises:
            Exception: whatever the model host raises; the runtime turns it into a fallback.
        """
        ...
