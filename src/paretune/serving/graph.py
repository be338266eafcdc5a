"""`policy.onnx`: a value model as one graph, from the features of requests to weights, action and values. An edge: needs onnx.

    values = scale * Q(s, a);   action = first argmax over the grid of values . scalarisation;   weights = actions[action]

The rules: the state is read once, whatever the number of actions; words, missing values and standardisation are part of the graph, so that
any ONNX Runtime host that passes features as they are serves the same policy. Standard operators only: opset 18 and ai.onnx.ml 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from paretune.errors import ArtefactError
from paretune.extras import missing
from paretune.records import PRODUCTION, Floats
from paretune.serving.graph_models import member_nodes
from paretune.serving.inputs import Feature, features_of
from paretune.serving.parts import Parts

try:
    from onnx import TensorProto, checker, helper, numpy_helper
except ImportError as error:
    raise missing("train", "exporting a policy", error) from error

OPSETS = {"": 18, "ai.onnx.ml": 3}
IR_VERSION = 8  # of the first releases that know opset 18
SCALARISATION, WEIGHTS, ACTION, VALUES = "scalarisation", "weights", "action", "values"
_TYPES = {"number": TensorProto.FLOAT, "vector": TensorProto.FLOAT, "text": TensorProto.STRING, "tokens": TensorProto.INT32}


class Graph:
    """Nodes and constants in the making; names of ours begin with a slash."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self._known: dict[Any, str] = {}

    def node(self, operator: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """Add a node and return the name of its output."""
        return self.nodes_of(operator, *inputs, outputs=1, domain=domain, **attributes)[0]

    def nodes_of(self, operator: str, *inputs: str, outputs: int, domain: str = "", **attributes: Any) -> list[str]:
        """Add a node and return the names of its outputs; the same node of the same inputs is added once."""
        key = (operator, inputs, repr(sorted(attributes.items())))
        names = [f"/{operator}_{len(self.nodes)}_{i}" for i in range(outputs)]
        if key in self._known:
            return self._known[key].split("\n")
        self.nodes.append(helper.make_node(operator, list(inputs), names, domain=domain, **attributes))
        self._known[key] = "\n".join(names)
        return names

    def output(self, operator: str, *inputs: str, name: str, **attributes: Any) -> None:
        """Add a node whose output is one of the graph's."""
        self.nodes.append(helper.make_node(operator, list(inputs), [name], **attributes))

    def constant(self, array: Any, dtype: Any = np.float32) -> str:
        """Add a constant and return its name; equal ones are added once."""
        array = np.asarray(array, dtype=dtype, order="C")
        key = (array.shape, array.dtype.str, array.tobytes())
        if key not in self._known:
            self._known[key] = f"/constant_{len(self.constants)}"
            self.constants.append(numpy_helper.from_array(array, self._known[key]))
        return self._known[key]


def policy_graph(parts: Parts, *, scale: Floats) -> bytes:
    """Return the graph of a model as the content of `policy.onnx`.

    Args:
        parts: of the model.
        scale: (M,) direction / production's value.

    Raises:
        ArtefactError: a feature has the name of another input or output.
    """
    graph, features = Graph(), features_of(parts.encoders)
    taken = {SCALARISATION, WEIGHTS, ACTION, VALUES} & {feature.name for feature in features}
    if taken:
        raise ArtefactError(f"features {sorted(taken)} have names that the graph needs", hint="rename the columns")
    actions, m = parts.surface.actions, len(parts.objectives)
    values = _combined(graph, parts, [member_nodes(graph, member) for member in parts.members])
    values = graph.node("Mul", values, graph.constant(scale, np.float64))
    last = graph.constant([2], np.int64)
    column = graph.node("Unsqueeze", graph.node("Cast", SCALARISATION, to=TensorProto.DOUBLE), last)
    scores = graph.node("Squeeze", graph.node("MatMul", values, column), last)
    graph.output("Cast", values, to=TensorProto.FLOAT, name=VALUES)
    barred = np.zeros(len(actions))
    barred[PRODUCTION] = -np.inf  # exploration never draws production
    graph.output("ArgMax", graph.node("Add", scores, graph.constant(barred, np.float64)), axis=1, keepdims=0, name=ACTION)
    graph.output("Gather", graph.constant(actions), ACTION, axis=0, name=WEIGHTS)
    outputs = [
        helper.make_tensor_value_info(WEIGHTS, TensorProto.FLOAT, ["n", actions.shape[1]]),
        helper.make_tensor_value_info(ACTION, TensorProto.INT64, ["n"]),
        helper.make_tensor_value_info(VALUES, TensorProto.FLOAT, ["n", len(actions), m]),
    ]
    return graph_file(graph, features, [(SCALARISATION, m)], outputs)


def _combined(graph: Graph, parts: Parts, values: Sequence[str]) -> str:
    """Return the (n, K, M) float64 values of the ensemble."""
    if len(values) == 1:
        return values[0]
    count = len(values)
    if parts.combined == "mean":
        return graph.node("Mul", graph.node("Sum", *values), graph.constant(1 / count, np.float64))
    axis, signs = graph.constant([0], np.int64), graph.constant(parts.signs, np.float64)
    production = [graph.node("Slice", each, *(graph.constant([at], np.int64) for at in (PRODUCTION, PRODUCTION + 1, 1))) for each in values]
    changes = [
        graph.node("Unsqueeze", graph.node("Mul", graph.node("Sub", each, at), signs), axis)
        for each, at in zip(values, production, strict=True)
    ]
    stacked = graph.node("Concat", *changes, axis=0)
    mean = graph.node("ReduceMean", stacked, axis, keepdims=0)
    off = graph.node("Sub", stacked, mean)
    squares = graph.node("ReduceSum", graph.node("Mul", off, off), axis, keepdims=0)
    sd = graph.node("Sqrt", graph.node("Mul", squares, graph.constant(1 / (count - 1), np.float64)))
    doubted = graph.node("Sub", mean, graph.node("Mul", sd, graph.constant(parts.caution, np.float64)))
    anchor = graph.node("Mul", graph.node("Sum", *production), graph.constant(1 / count, np.float64))
    return graph.node("Add", anchor, graph.node("Mul", doubted, signs))


def graph_file(graph: Graph, features: Sequence[Feature], vectors: Sequence[tuple[str, int]], outputs: Sequence[Any]) -> bytes:
    """Return a graph as the content of a file.

    Args:
        graph: its nodes.
        features: inputs of a request.
        vectors: name and size of further inputs, float32.
        outputs: as onnx describes them.
    """
    inputs = [
        helper.make_tensor_value_info(
            feature.name, _TYPES[feature.kind], ["n"] if feature.kind in {"number", "text"} else ["n", feature.size]
        )
        for feature in features
    ]
    inputs += [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", size]) for name, size in vectors]
    made = helper.make_graph(graph.nodes, "policy", inputs, list(outputs), graph.constants)
    model = helper.make_model(
        made,
        ir_version=IR_VERSION,
        producer_name="paretune",
        opset_imports=[helper.make_opsetid(domain, version) for domain, version in OPSETS.items()],
    )
    checker.check_model(model)
    return model.SerializeToString(deterministic=True)
