"""The runtime over a real bundle: the same actions as float64, also from the last known good copy; a flipped bit is refused."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "value"))
from small_log import make_config, make_log

import paretune as pt
from paretune.errors import ArtefactError
from paretune.policy.plan import Arm, Plan
from paretune.serving.bundle import save_bundle
from paretune.serving.decide import Reason, Request
from paretune.serving.inputs import features_of, state_inputs
from paretune.serving.parts import model_parts
from paretune.serving.reference import best_actions, reference_values
from paretune.serving.sources import fingerprint_of, write_plan
from paretune.value.train import fit

CONFIG = make_config(max_epochs=3)
SURFACE = CONFIG.surface.build()
SCALE = np.array([2.5, -4.0])
TRADE_OFF = (0.7, 0.3)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("store")
    model = fit(make_log(1500, CONFIG), CONFIG, model="ridge")
    save_bundle(model, folder / "bundles" / "knee", scale=SCALE)  # type: ignore[arg-type]
    return folder


def plan_for(store: Path, version: int = 1) -> Plan:
    arm = Arm("knee", 1.0, bundle=fingerprint_of(store / "bundles" / "knee"), scalarisation=TRADE_OFF)
    return Plan(version, SURFACE.names, tuple(SURFACE.static.tolist()), (arm,))


def test_a_real_bundle_is_served_refused_when_flipped_and_kept_as_last_known_good(store: Path, tmp_path: Path) -> None:
    from paretune.value.bundle import load_model

    write_plan(plan_for(store), store / "plan.json")
    runtime = pt.Runtime.load(store / "bundles", store / "plan.json", state_dir=tmp_path / "state", deadline_s=1.0)
    assert runtime.state().ready
    parts = model_parts(load_model(store / "bundles" / "knee"))  # type: ignore[arg-type]
    inputs = state_inputs(make_log(50, CONFIG).state, features_of(parts.encoders))
    values = reference_values(parts, inputs, scale=SCALE)
    best = best_actions(values, np.repeat([TRADE_OFF], 50, axis=0))
    rows = [{name: column[i] for name, column in inputs.items()} for i in range(50)]
    known = [{name: value for name, value in row.items() if not (np.ndim(value) == 0 and value != value)} for row in rows]  # NaN is missing
    requests = [Request(i, i, features) for i, features in enumerate(known)]
    decisions = [runtime.decide(request) for request in requests]
    assert {(decision.reason, decision.detail) for decision in decisions} == {(Reason.POLICY, "")}
    assert [decision.action for decision in decisions] == best.tolist()
    assert [decision.weights for decision in decisions] == [tuple(SURFACE.actions[a].tolist()) for a in best]
    empty = runtime.decide(Request(0, 0))
    assert (empty.reason, empty.weights) == (Reason.MISSING_FEATURES, tuple(SURFACE.static.tolist()))

    harmed = tmp_path / "harmed"
    shutil.copytree(store / "bundles" / "knee", harmed / "knee")
    graph = harmed / "knee" / "policy.onnx"
    content = bytearray(graph.read_bytes())
    content[len(content) // 2] ^= 1
    graph.write_bytes(bytes(content))
    alone = pt.Runtime.load(harmed, store / "plan.json")
    assert {alone.decide(request).reason for request in requests} == {Reason.NO_MODEL}
    with pytest.raises(ArtefactError, match=r"policy.onnx"):
        alone.switch(plan_for(store))
    again = pt.Runtime.load(harmed, store / "plan.json", state_dir=tmp_path / "state", deadline_s=1.0)
    assert [again.decide(request).weights for request in requests] == [decision.weights for decision in decisions]
