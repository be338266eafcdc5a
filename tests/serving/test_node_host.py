"""The example host in Node: the same weights as Python, from the same bundle."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "value"))
from small_log import make_config, make_log

from paretune.serving.bundle import load_bundle, save_bundle
from paretune.value.smooth import fit_smooth

EXAMPLE = Path(__file__).parents[2] / "examples" / "other_languages"
CONFIG = make_config(max_epochs=25, patience=25)
SCALE = np.array([2.5, 4.0])

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    """Return the example beside its npm package."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("node or npm is not installed")
    folder = tmp_path_factory.mktemp("node") / "host"
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("node_modules"))
    install = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund"]  # the scripts would fetch GPU libraries
    try:
        done = subprocess.run(install, cwd=folder, capture_output=True, text=True, check=False, timeout=180)
    except subprocess.TimeoutExpired:
        pytest.skip("npm could not install onnxruntime-node within three minutes")
    if done.returncode != 0:
        pytest.skip(f"npm cannot install onnxruntime-node: {done.stderr.strip()[-300:]}")
    return folder


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundle") / "smooth"
    save_bundle(fit_smooth(make_log(2000, CONFIG), CONFIG), folder, scale=SCALE)
    return folder


def asked(host, bundle, requests):
    lines = "".join(json.dumps(request) + "\n" for request in requests)
    return subprocess.run(
        ["node", "decide.js", str(bundle)], cwd=host, input=lines, capture_output=True, text=True, check=False, timeout=60
    )


def test_node_answers_the_weights_that_python_answers(host, bundle):
    scorer, rng = load_bundle(bundle), np.random.default_rng(0)
    requests = []
    for i in range(200):
        features = {
            "taste": rng.normal(),
            "age": None if i % 7 == 0 else 40 + 10 * rng.normal(),
            "country": [None, "at", "be", "cy", "élan"][i % 5],
            "vector": rng.normal(size=3).tolist(),
            "history": rng.integers(0, 5, i % 8).tolist(),
            "items": rng.integers(0, 200, 4).tolist(),
        }
        alpha = i / 199
        requests.append({"features": features, "scalarisation": [alpha, 1 - alpha]})
    done = asked(host, bundle, requests)
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == 200
    actions = set()
    for request, answer in zip(requests, answers, strict=True):
        choice = scorer.choose(scorer.read(request["features"]), np.array(request["scalarisation"]))
        assert answer["action"] == choice.action
        np.testing.assert_allclose(answer["weights"], scorer.actions[choice.action], rtol=1e-6)
        np.testing.assert_allclose(np.reshape(answer["values"], choice.values.shape), choice.values, atol=1e-5)
        actions.add(choice.action)
    assert len(actions) > 3


def test_node_refuses_what_python_refuses_by_name(host, bundle, tmp_path):
    good = {"taste": 0.5, "age": 30, "country": "at", "vector": [1, 2, 3], "history": [1], "items": [7]}
    for name, value in (("taste", None), ("taste", 1e308), ("vector", [1, 2]), ("history", [-2]), ("country", 7)):
        done = asked(host, bundle, [{"features": {**good, name: value}, "scalarisation": [0.5, 0.5]}])
        assert done.returncode == 1
        assert name in done.stderr
    shutil.copytree(bundle, tmp_path / "bent")
    graph = bytearray((tmp_path / "bent" / "policy.onnx").read_bytes())
    graph[len(graph) // 2] ^= 1
    (tmp_path / "bent" / "policy.onnx").write_bytes(graph)
    done = asked(host, tmp_path / "bent", [{"features": good, "scalarisation": [0.5, 0.5]}])
    assert done.returncode == 1
    assert "policy.onnx differs from its checksum" in done.stderr
