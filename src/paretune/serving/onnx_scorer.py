"""A bundle served by ONNX Runtime, one thread and float32. An edge: needs onnxruntime."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from paretune.errors import ArtefactError
from paretune.extras import missing
from paretune.records import Floats, Ints
from paretune.serving.inputs import Reader
from paretune.serving.scoring import Choice, Inputs

try:
    import onnxruntime
except ImportError as error:
    raise missing("serve", "serving a graph", error, otherwise="serve with prefer='numpy'") from error

_OUTPUTS = ["action", "values"]


class OnnxScorer:
    """See `serving.scoring.Scorer`; safe to call from several threads."""

    def __init__(
        self, graph: bytes, *, fingerprint: str, heads: tuple[str, ...], objectives: tuple[str, ...], actions: Floats, reader: Reader
    ) -> None:
        """Open a session.

        Args:
            graph: content of policy.onnx.
            fingerprint: of the bundle.
            heads: (m,) names.
            objectives: (M,) names.
            actions: (K, m).
            reader: of requests.

        Raises:
            ArtefactError: ONNX Runtime refuses the graph.
        """
        self.fingerprint, self.heads, self.objectives, self.actions = fingerprint, heads, objectives, actions
        self._reader = reader
        session = open_session(graph)
        self._run = getattr(session, "_sess", session).run  # the wrapper checks again what `read` has checked, for a fifth of the time

    def read(self, features: Mapping[str, Any]) -> Inputs:
        """Return the model's inputs of one request.

        Raises:
            FeatureError: naming the feature.
        """
        return self._reader.read(features)

    def choose(self, inputs: Inputs, scalarisation: Floats) -> Choice:
        """Return the action for a scalarisation (M,), and all values."""
        action, values = self._run(_OUTPUTS, {**inputs, "scalarisation": np.array([scalarisation], dtype=np.float32)}, None)
        return Choice(int(action[0]), values[0])

    def score(self, inputs: Inputs, scalarisations: Floats) -> tuple[Ints, Floats]:
        """Return actions (n,) and values (n, K, M) of n requests, each under its own scalarisation (n, M)."""
        actions, values = self._run(_OUTPUTS, {**inputs, "scalarisation": np.asarray(scalarisations, dtype=np.float32)}, None)
        return actions, values

    def weights(self, inputs: Inputs, scalarisations: Floats) -> Floats:
        """Return the weights (n, m) float32 that the graph answers."""
        return self._run(["weights"], {**inputs, "scalarisation": np.asarray(scalarisations, dtype=np.float32)}, None)[0]


def open_session(graph: bytes) -> Any:
    """Return a session of one thread.

    Raises:
        ArtefactError: ONNX Runtime refuses the graph.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # broad: its exceptions share no base class
        raise ArtefactError(f"ONNX Runtime refuses the graph: {error}", hint="export the policy again") from error
