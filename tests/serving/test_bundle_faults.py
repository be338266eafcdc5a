"""What a serving bundle is refused for: every file, cut, bent, swapped or forged."""

import hashlib
import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[1] / "value"))
from small_log import make_config, make_log

from paretune.atomic import write_folder
from paretune.config import parse_config
from paretune.errors import ArtefactError, GateError
from paretune.serving.bundle import GOLDEN, POLICY, REPORT, SERVING, load_bundle, save_bundle
from paretune.value.bundle import ARRAYS, MANIFEST, SUMS, save_model
from paretune.value.ridge import fit_ridge

CONFIG = make_config()
LOG = make_log(1200, CONFIG)
SCALE = np.array([2.5, -4.0])
FILES = sorted([ARRAYS, MANIFEST, POLICY, SERVING, GOLDEN, REPORT, SUMS])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundle") / "ridge"
    save_bundle(fit_ridge(LOG, CONFIG), folder, scale=SCALE, report={"evidence": "none"})
    return folder


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """Return the bundle of a model over another grid."""
    raw = CONFIG.model_dump(mode="json")
    raw["surface"]["heads"][0]["tune"]["high"] = 90.0
    config = parse_config(raw)
    folder = tmp_path_factory.mktemp("bundle") / "other"
    save_bundle(fit_ridge(LOG, config), folder, scale=SCALE)
    return folder


def resealed(folder, target, **changed):
    """Return a copy with other content and sums that fit it: what a forger would write."""
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != SUMS} | changed
    sums = "".join(f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in sorted(files.items()))
    write_folder(target, {**files, SUMS: sums.encode()})
    return target


def refused(folder):
    for prefer in ("onnx", "numpy"):
        with pytest.raises(ArtefactError):
            load_bundle(folder, prefer=prefer)


def test_the_bundle_holds_these_files_and_loads(folder):
    assert sorted(path.name for path in folder.iterdir()) == FILES
    assert load_bundle(folder).fingerprint == hashlib.sha256((folder / SUMS).read_bytes()).hexdigest()


@given(st.sampled_from(FILES), st.integers(0, 2**40), st.integers(0, 7))
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_flipped_bit_of_any_file_is_refused(folder, name, place, bit):
    path = folder / name
    original = path.read_bytes()
    altered = bytearray(original)
    altered[place % len(altered)] ^= 1 << bit
    path.write_bytes(altered)
    try:
        refused(folder)
    finally:
        path.write_bytes(original)


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_missing_cut_or_has_a_zeroed_block_is_refused(folder, name):
    path = folder / name
    original = path.read_bytes()
    half = next(place for place in range(len(original) // 2, len(original)) if original[place])  # zeroing it changes something
    try:
        for altered in (b"", original[:half], original[:-1], original + b"\0", original[:half] + bytes(8) + original[half + 8 :]):
            path.write_bytes(altered)
            refused(folder)
        path.unlink()
        refused(folder)
    finally:
        path.write_bytes(original)


@pytest.mark.parametrize("name", [ARRAYS, MANIFEST, SERVING, GOLDEN])
def test_a_file_of_a_bundle_over_another_grid_is_refused(folder, other, tmp_path, name):
    refused(resealed(folder, tmp_path / "mixed", **{name: (other / name).read_bytes()}))


def test_a_graph_of_another_grid_or_none_is_refused(folder, other, tmp_path):
    for content in ((other / POLICY).read_bytes(), b"", b"not a graph", (folder / ARRAYS).read_bytes()):
        with pytest.raises(ArtefactError):
            load_bundle(resealed(folder, tmp_path / "mixed", **{POLICY: content}))


def test_a_graph_whose_weights_were_moved_is_refused(folder, tmp_path):
    import onnx
    from onnx import numpy_helper

    graph = onnx.load_model_from_string((folder / POLICY).read_bytes())
    shape = load_bundle(folder).actions.shape
    for constant in graph.graph.initializer:
        if tuple(constant.dims) == shape:
            constant.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(constant) * 1.01, constant.name))
    with pytest.raises(ArtefactError, match="another grid"):
        load_bundle(resealed(folder, tmp_path / "moved", **{POLICY: graph.SerializeToString()}))


def test_values_that_differ_from_the_golden_batch_are_refused(folder, tmp_path):
    with np.load(folder / GOLDEN) as stored:
        golden = dict(stored)
    span = np.abs(golden["values"]).max()
    for change in (
        {"values": golden["values"] + 1e-4 * span},
        {"actions": 1 + golden["actions"] % 9},
        {"values": golden["values"] * np.nan},
        {"actions": golden["actions"][:0], "values": golden["values"][:0]},
        {"input0": golden["input0"][:3]},
    ):
        buffer = io.BytesIO()
        np.savez(buffer, **(golden | change))
        refused(resealed(folder, tmp_path / "golden", **{GOLDEN: buffer.getvalue()}))


@pytest.mark.parametrize("name", [ARRAYS, GOLDEN])
def test_a_pickle_is_refused_and_never_run(folder, tmp_path, name):
    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("the pickle ran",))

    with np.load(folder / name) as stored:
        arrays = dict(stored)
    buffer = io.BytesIO()
    np.savez(buffer, **(arrays | {next(iter(arrays)): np.array([Trap()], dtype=object)}))
    refused(resealed(folder, tmp_path / "trap", **{name: buffer.getvalue()}))


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"scale": [1.0, 0.0]},
        {"scale": [1.0]},
        {"scale": [5.0, -4.0]},
        {"heads": ["save", "click", "p2p"]},
        {"objectives": ["p2p", "save"]},
        {"features": []},
        {"actions": "none"},
    ],
)
def test_serving_notes_that_do_not_fit_the_model_are_refused(folder, tmp_path, change):
    notes = json.loads((folder / SERVING).read_text(encoding="utf-8")) | change
    refused(resealed(folder, tmp_path / "notes", **{SERVING: json.dumps(notes).encode()}))


@pytest.mark.parametrize("content", [b"[]", b"{}", b"null", b"\xff", b"[" * 100_000])
def test_notes_and_manifests_that_are_none_are_refused(folder, tmp_path, content):
    for name in (SERVING, MANIFEST):
        refused(resealed(folder, tmp_path / "none", **{name: content}))


def test_a_model_alone_is_no_serving_bundle(folder, tmp_path):
    save_model(fit_ridge(LOG, CONFIG), tmp_path / "model")
    refused(tmp_path / "model")


def test_a_bundle_whose_graph_chooses_otherwise_is_not_written(tmp_path, monkeypatch):
    import paretune.serving.graph as graphs

    true = graphs.policy_graph
    monkeypatch.setattr(graphs, "policy_graph", lambda parts, scale: true(parts, scale=scale * np.array([1.0, -1.0])))
    with pytest.raises(GateError, match="trade-off"):
        save_bundle(fit_ridge(LOG, CONFIG), tmp_path / "wrong", scale=SCALE)
    assert not (tmp_path / "wrong").exists()


@pytest.mark.parametrize("scale", [[1.0], [1.0, 0.0], [1.0, np.nan], [1.0, np.inf]])
def test_a_scale_that_does_not_fit_is_refused(tmp_path, scale):
    with pytest.raises(ArtefactError, match="scale"):
        save_bundle(fit_ridge(LOG, CONFIG), tmp_path / "x", scale=np.array(scale))


def test_a_feature_named_like_an_output_is_refused(tmp_path):
    raw = CONFIG.model_dump(mode="json")
    raw["features"]["numeric"] = ["values"]
    config, log = parse_config(raw), make_log(1200, CONFIG)
    log.state.numeric["values"] = log.state.numeric["taste"]
    with pytest.raises(ArtefactError, match="names that the graph needs"):
        save_bundle(fit_ridge(log, config), tmp_path / "x", scale=SCALE)


def test_numpy_serves_where_onnx_runtime_is_missing_and_the_log_says_so(folder, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert type(load_bundle(folder)).__name__ == "NumpyScorer"
    assert 'pip install "paretune[serve]"' in caplog.text
    caplog.clear()
    assert type(load_bundle(folder, prefer="numpy")).__name__ == "NumpyScorer"
    assert caplog.text == ""


def test_serving_needs_no_torch(tmp_path):
    """A paper network, loaded and answered by both hosts in a process that cannot import torch."""
    import subprocess

    from paretune.value.train import fit

    save_bundle(fit(LOG, make_config(max_epochs=1), model="paper"), tmp_path / "paper", scale=SCALE)
    code = (
        "import sys; sys.modules['torch'] = None; sys.modules['onnx'] = None\n"
        "from pathlib import Path; import numpy as np; from paretune.serving.bundle import load_bundle\n"
        "request = dict(taste=1.0, age=30, country='at', vector=[0.1, 0.2, 0.3], history=[1, 2], items=[7])\n"
        "for prefer in ('onnx', 'numpy'):\n"
        f"    scorer = load_bundle(Path({str(tmp_path / 'paper')!r}), prefer=prefer)\n"
        "    print(scorer.choose(scorer.read(request), np.array([0.5, 0.5])).action)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.split()
    assert first == second
