"""A bundle served by numpy alone: where ONNX Runtime is missing, and as a second opinion on a graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from paretune.records import Floats, Ints
from paretune.serving.inputs import Reader
from paretune.serving.parts import Parts
from paretune.serving.reference import best_actions, reference_values
from paretune.serving.scoring import Choice, Inputs


@dataclass(frozen=True, slots=True)
class NumpyScorer:
    """See `serving.scoring.Scorer`."""

    fingerprint: str
    heads: tuple[str, ...]
    objectives: tuple[str, ...]
    actions: Floats  # (K, m)
    parts: Parts
    scale: Floats  # (M,)
    reader: Reader
    dtype: Any = np.float64  # costs little, and takes the reference's action always

    def read(self, features: Mapping[str, Any]) -> Inputs:
        """Return the model's inputs of one request.

        Raises:
            FeatureError: naming the feature.
        """
        return self.reader.read(features)

    def choose(self, inputs: Inputs, scalarisation: Floats) -> Choice:
        """Return the action for a scalarisation (M,), and all values."""
        actions, values = self.score(inputs, np.asarray(scalarisation)[None])
        return Choice(int(actions[0]), values[0])

    def score(self, inputs: Inputs, scalarisations: Floats) -> tuple[Ints, Floats]:
        """Return actions (n,) and values (n, K, M) of n requests, each under its own scalarisation (n, M)."""
        values = reference_values(self.parts, inputs, scale=self.scale, dtype=self.dtype)
        return best_actions(values, np.asarray(scalarisations)), values
