"""The model's part of a decision: our graphs against the paper's network as one would export it without thinking, 49 rows per request.

The naive graph is the plain forward pass: every row brings its state through embeddings, Transformer and MLP again, beside its action's
coordinates, through unfolded batch norms; its features are read by the same nodes as ours, 49 times. All run in ONNX Runtime, one thread,
in turn; a decision is `read` and `choose` of a request with embeddings and sequences as bytes, and each figure is a ratio of medians over
rounds. The first figures are at the sizes of the demo world's features (three sequences of 20 tokens, one layer of width 32), on models
trained on 20,000 rows; those that begin with `large` at five times the history and a Transformer of two layers of width 64, with initial
weights for the paper's network, since time does not depend on the numbers inside. The paper gives no widths.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from time import perf_counter
from typing import Any

import numpy as np
import torch
from onnx import TensorProto, helper

from paretune.config import Config
from paretune.records import Log
from paretune.serving.bundle import compared, scale_of
from paretune.serving.graph import Graph, graph_file, policy_graph
from paretune.serving.graph_models import paper_state
from paretune.serving.inputs import Reader, features_of, state_inputs
from paretune.serving.onnx_scorer import OnnxScorer, open_session
from paretune.serving.parts import Parts, model_parts
from paretune.sim.memory import draw_log
from paretune.sim.world import open_world
from paretune.surface.grid import linear_coordinates
from paretune.value.features import Encoder
from paretune.value.fitting import seeded
from paretune.value.origin import Origin
from paretune.value.paper_net import Network, Paper, Sizes
from paretune.value.train import fit

ROWS, ROUNDS, REPEATS = 20_000, 15, 40
ALPHAS = np.column_stack([np.linspace(0, 1, 25), 1 - np.linspace(0, 1, 25)])


def figures(quick: bool = False) -> dict[str, float]:
    """Return the figures of the model's part by name; times of a decision in milliseconds among them."""
    torch.set_num_threads(1)
    world = open_world("homefeed", seed=7)
    config = world.config().model_copy(update={"training": world.config().training.model_copy(update={"max_epochs": 8})})
    log = draw_log(world, ROWS, seed=7)
    scale = scale_of(config, log.rewards.mean(axis=0))
    models = {"paper": fit(log, config, model="paper"), "default": fit(log, config)}
    seen = []
    for model in models.values():
        parts = model_parts(model)
        inputs = state_inputs(log.state.take(slice(0, 400 if quick else 4200)), features_of(parts.encoders))
        seen.append(compared(scorer_of(parts, scale), parts, inputs, scale=scale, scalarisations=ALPHAS)[0])
    rounds = 3 if quick else ROUNDS
    demo = medians_of(decisions(models, log, scale), rounds=rounds)
    longer, wide = lengthened(log, config)
    large = medians_of(decisions({"paper": untrained(longer, wide), "default": fit(longer, wide)}, longer, scale), rounds=rounds)
    return {
        "decision_paper_speedup": demo["naive"] / demo["paper"],
        "decision_default_speedup": demo["naive"] / demo["default"],
        "action_agreement": min(parity.agreement for parity in seen),
        "action_agreement_pairs": float(sum(parity.pairs for parity in seen)),
        "large_paper_speedup": large["naive"] / large["paper"],
        "large_default_speedup": large["naive"] / large["default"],
        **{f"decision_{name}_ms": 1e3 * seconds for name, seconds in demo.items()},
        **{f"large_{name}_ms": 1e3 * seconds for name, seconds in large.items()},
    }


def decisions(models: dict[str, Any], log: Log, scale: Any) -> dict[str, Callable[[], Any]]:
    """Return a decision by each model, and by the naive graph of the paper's."""
    timed: dict[str, Callable[[], Any]] = {}
    request, wanted = as_sent(log, 0), np.array([0.4, 0.6])
    for name, model in models.items():
        parts = model_parts(model)
        scorer = scorer_of(parts, scale)
        timed[name] = lambda scorer=scorer: scorer.choose(scorer.read(request), wanted)
        if name == "paper":
            timed["naive"] = naive_decision(parts, scorer.read(request), scorer)
    return timed


def scorer_of(parts: Parts, scale: Any) -> OnnxScorer:
    """Return the model served by ONNX Runtime."""
    surface, reader = parts.surface, Reader(features_of(parts.encoders))
    graph = policy_graph(parts, scale=scale)
    return OnnxScorer(graph, fingerprint="", heads=surface.names, objectives=parts.objectives, actions=surface.actions, reader=reader)


def lengthened(log: Log, config: Config) -> tuple[Log, Config]:
    """Return log and configuration with five times the history."""
    sequence = {name: np.tile(tokens, 5) for name, tokens in log.state.sequence.items()}
    sequences = [feature.model_copy(update={"length": 5 * feature.length}) for feature in config.features.sequences]
    features = config.features.model_copy(update={"sequences": sequences})
    return replace(log, state=replace(log.state, sequence=sequence)), config.model_copy(update={"features": features})


def untrained(log: Log, config: Config) -> Paper:
    """Return the paper's network with initial weights."""
    encoder, sizes = Encoder.fit(log.state, config.features), Sizes(d_model=64, attention_heads=4, layers=2, state=128, backbone=128)
    origin = Origin.of(log, config, seed=0, losses={})
    network = seeded(lambda: Network(encoder, len(origin.surface.tuned), origin.clipped, sizes), 0)
    return Paper(origin, encoder, sizes, network.eval())


def as_sent(log: Log, row: int) -> dict[str, Any]:
    """Return one row's features as a ranker sends them."""
    state = log.state
    return {
        **{name: float(column[row]) for name, column in state.numeric.items()},
        **{name: column.vocabulary[column.codes[row]] for name, column in state.categorical.items()},
        **{name: column[row].astype("<f2").tobytes() for name, column in state.embedding.items()},
        **{name: column[row].astype("<i2").tobytes() for name, column in state.sequence.items()},
    }


def naive_decision(parts: Parts, inputs: Any, scorer: Any) -> Callable[[], int]:
    """Return a decision by the plain forward pass over one row per grid action; it must value actions as the bundle does."""
    member = parts.members[0]
    session, actions = open_session(naive_graph(parts)), parts.surface.actions[1:]
    coordinates = linear_coordinates(parts.surface, actions).astype(np.float32)
    repeated = {name: np.repeat(column, len(actions), axis=0) for name, column in inputs.items()}
    answer = session.run(None, {**repeated, "coordinates": coordinates})[0]
    values = scorer.choose(inputs, np.ones(len(member.origin.objectives))).values[1:]
    if not np.allclose(answer * (values / answer).mean(axis=0), values, rtol=1e-3):
        raise RuntimeError("the naive graph is of another network")

    def decide() -> int:
        rows = {name: np.repeat(column, len(actions), axis=0) for name, column in inputs.items()}
        values = session.run(None, {**rows, "coordinates": coordinates})[0]
        return 1 + int((values @ np.array([0.4, 0.6], np.float32)).argmax())

    return decide


def naive_graph(parts: Parts) -> bytes:
    """Return the paper's network as a graph of (state, action) rows."""
    graph, member = Graph(), parts.members[0]
    arrays = {name: array.astype(np.float64) for name, array in member.arrays.items()}

    def linear(name: str, x: str) -> str:
        return graph.node("Gemm", x, graph.constant(arrays[f"{name}.weight"].T), graph.constant(arrays[f"{name}.bias"]))

    x = graph.node("Concat", paper_state(graph, member, arrays), graph.node("Relu", linear("action.0", "coordinates")), axis=1)
    for i in range(3):
        norm = [graph.constant(arrays[f"norms.{i}.{name}"]) for name in ("weight", "bias", "running_mean", "running_var")]
        x = graph.node("Relu", linear(f"linears.{i}", graph.node("BatchNormalization", x, *norm)))
    graph.output("Sigmoid", linear("heads", x), name="answer")
    outputs = [helper.make_tensor_value_info("answer", TensorProto.FLOAT, ["n", len(parts.objectives)])]
    return graph_file(graph, features_of(parts.encoders), [("coordinates", len(parts.surface.tuned))], outputs)


def medians_of(timed: dict[str, Callable[[], Any]], *, rounds: int) -> dict[str, float]:
    """Return the median over rounds of each function's mean seconds; the functions take turns within a round."""
    seconds: dict[str, list[float]] = {name: [] for name in timed}
    for _ in range(rounds):
        for name, run in timed.items():
            run()
            start = perf_counter()
            for _ in range(REPEATS):
                run()
            seconds[name].append((perf_counter() - start) / REPEATS)
    return {name: float(np.median(each)) for name, each in seconds.items()}


if __name__ == "__main__":
    json.dump(figures("--quick" in sys.argv), sys.stdout, indent=1)
