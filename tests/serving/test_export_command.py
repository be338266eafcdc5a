"""`paretune export` as typed, on a small swept log."""

import json
from pathlib import Path

import numpy as np
import pytest

from paretune.cli import main
from paretune.frontier.archive import load_front
from paretune.frontier.sweep import choose
from paretune.logs.parquet import read_log
from paretune.policy.registry import Registry
from paretune.report.archive import SCALE, load_run
from paretune.serving.bundle import load_bundle
from paretune.serving.decide import Reason, Request
from paretune.serving.inputs import features_of, state_inputs
from paretune.serving.parts import model_parts
from paretune.serving.registry_source import registry_runtime
from paretune.value.bundle import load_model, verified_files
from shop import QUICK, make_shop


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_shop(tmp_path_factory.mktemp("shop"), rows=3000, changes=QUICK)
    assert main(["sweep", str(folder / "logs"), "-c", str(folder / "paretune.toml"), "-o", str(folder / "run")]) in {0, 4}
    return folder


def test_the_exported_policy_chooses_as_the_sweep_did_and_names_its_evidence(shop, capsys):
    capsys.readouterr()
    name = load_front(shop / "run").policies[8].name
    assert main(["export", str(shop / "run"), name, "-o", str(shop / "bundle"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    written = json.loads((shop / "bundle" / "operating.json").read_text(encoding="utf-8"))
    assert told["operating"] == written
    assert (written["policy"], told["parity"]["agreement"]) == (name, 1.0)
    assert written["evidence"]["hold_out"] == ["2026-03-05", "2026-03-06"]
    front = load_front(shop / "run")
    lifts = written["evidence"]["lifts"]["estimate"]
    np.testing.assert_allclose([np.nan if lift is None else lift for lift in lifts], front.lifts.estimate[8])

    scorer = load_bundle(shop / "bundle")
    assert written["bundle"] == scorer.fingerprint
    findings = load_run(shop / "run")
    model = load_model(shop / "run" / "model")
    log = read_log(shop / "logs", findings.config).take(slice(0, 500))
    values = model.values(log.state, scorer.actions) * findings.scale.astype(np.float32)
    swept = choose(values, np.array([written["scalarisation"]]))[:, 0]
    inputs = state_inputs(log.state, features_of(model_parts(model).encoders))
    served, _ = scorer.score(inputs, np.tile(written["scalarisation"], (500, 1)))
    np.testing.assert_array_equal(served, swept)


def test_fixed_weights_are_written_without_a_bundle_and_unknown_names_are_refused(shop, capsys):
    front = load_front(shop / "run")
    static = next(policy for policy in front.policies if policy.weights is not None)
    assert main(["export", str(shop / "run"), static.name, "-o", str(shop / "fixed")]) == 0
    assert "no bundle needed" in capsys.readouterr().out
    written = json.loads((shop / "fixed" / "operating.json").read_text(encoding="utf-8"))
    assert written["weights"] == static.weights.tolist()
    assert written["bundle"] == ""
    assert [path.name for path in (shop / "fixed").iterdir()] == ["operating.json"]
    assert main(["export", str(shop / "run"), "nobody"]) == 2
    assert "no policy of this run" in capsys.readouterr().err


def test_cohort_policies_name_a_trade_off_per_cohort(shop):
    front = load_front(shop / "run")
    for policy in front.policies:
        if policy.cohort_alphas:
            assert main(["export", str(shop / "run"), policy.name, "-o", str(shop / "cohort")]) == 0
            written = json.loads((shop / "cohort" / "operating.json").read_text(encoding="utf-8"))
            assert written["cohorts"] == {name: [alpha, 1 - alpha] for name, alpha in policy.cohort_alphas}
            break
    else:
        pytest.skip("this run has no cohort policy")


def test_a_run_without_its_scale_is_refused(shop, capsys):
    kept = (shop / "run" / SCALE).read_bytes()
    (shop / "run" / SCALE).unlink()
    try:
        assert main(["export", str(shop / "run"), load_front(shop / "run").policies[8].name, "-o", str(shop / "x")]) == 3
        assert "paretune sweep" in capsys.readouterr().err
    finally:
        (shop / "run" / SCALE).write_bytes(kept)


def test_operating_json_lies_beside_the_checksummed_files(shop):
    assert main(["export", str(shop / "run"), load_front(shop / "run").policies[8].name, "-o", str(shop / "bundle")]) == 0
    assert "operating.json" not in verified_files(shop / "bundle")


def test_a_policy_of_a_run_goes_through_the_registry_and_is_served_as_it_was_exported(shop, capsys):
    name, where = load_front(shop / "run").policies[8].name, str(shop / "paretune.db")
    assert main(["publish", str(shop / "run"), name, "--registry", where, "--as", "anna", "--json"]) == 0
    told = json.loads(capsys.readouterr().out[-100_000:])
    assert told["operating"]["policy"] == name
    assert main(["approve", "1", "--registry", where, "--as", "bert"]) == 0
    assert main(["activate", "1", "--share", "100", "--registry", where, "--as", "anna", "--yes"]) == 0
    registry = Registry(where)
    document, page = registry.front(told["front"])
    assert document == (shop / "run" / "front.json").read_bytes()
    assert page == (shop / "run" / "report.html").read_bytes()
    assert registry.verify() == []

    runtime, _ = registry_runtime(where, shop / "served", deadline_s=None)
    log = read_log(shop / "logs", load_run(shop / "run").config)
    inputs = state_inputs(log.state.take(slice(0, 50)), features_of(model_parts(load_model(shop / "run" / "model")).encoders))
    for i in range(50):
        features = {feature: np.asarray(column[i]).tolist() for feature, column in inputs.items()}
        decision = runtime.decide(Request(i, i, features))
        assert decision.reason is Reason.POLICY, decision.detail
    assert main(["publish", str(shop / "run"), name, "--registry", where, "--as", "anna"]) == 4
    assert "this is policy 1 already" in capsys.readouterr().err
