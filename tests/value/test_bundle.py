import hashlib
import io
import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from paretune.atomic import write_folder
from paretune.errors import ArtefactError
from paretune.value.bundle import ARRAYS, FORMAT, MANIFEST, SUMS, load_model, save_model, verified_files
from paretune.value.ridge import fit_ridge


@pytest.fixture(scope="module")
def folder(tmp_path_factory, log, config):
    folder = tmp_path_factory.mktemp("bundle") / "ridge"
    fit_ridge(log, config).save(folder)
    return folder


def resealed(folder, tmp_path, **changed):
    """Return a copy with other content and sums that fit it: what a forger or another release would write."""
    files = {**{name: (folder / name).read_bytes() for name in (ARRAYS, MANIFEST)}, **changed}
    sums = "".join(f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in sorted(files.items()))
    copy = tmp_path / "copy"
    write_folder(copy, {**files, SUMS: sums.encode()})
    return copy


@given(st.sampled_from([ARRAYS, MANIFEST, SUMS]), st.integers(0, 2**40), st.integers(0, 7))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_flipped_bit_is_refused(folder, name, place, bit):
    path = folder / name
    original = path.read_bytes()
    altered = bytearray(original)
    altered[place % len(altered)] ^= 1 << bit
    path.write_bytes(altered)
    try:
        with pytest.raises(ArtefactError):
            load_model(folder)
    finally:
        path.write_bytes(original)


def test_every_flipped_bit_of_the_sums_is_refused(folder):
    path = folder / SUMS
    original = path.read_bytes()
    try:
        for place in range(len(original)):
            for bit in range(8):
                path.write_bytes(original[:place] + bytes([original[place] ^ 1 << bit]) + original[place + 1 :])
                with pytest.raises(ArtefactError):
                    verified_files(folder)
    finally:
        path.write_bytes(original)


@pytest.mark.parametrize("name", [ARRAYS, MANIFEST, SUMS])
def test_a_missing_or_truncated_file_is_refused(folder, name):
    path = folder / name
    original = path.read_bytes()
    try:
        for remains in (b"", original[: len(original) // 2], original[:-1]):
            path.write_bytes(remains)
            with pytest.raises(ArtefactError):
                load_model(folder)
        path.unlink()
        with pytest.raises(ArtefactError):
            load_model(folder)
    finally:
        path.write_bytes(original)


def test_a_pickled_array_is_refused_and_never_run(folder, tmp_path):
    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("the pickle ran",))

    buffer = io.BytesIO()
    np.savez(buffer, by_state=np.array([Trap()], dtype=object), shared=np.zeros(2))
    with pytest.raises(ArtefactError, match="does not hold a ridge model"):
        load_model(resealed(folder, tmp_path, **{ARRAYS: buffer.getvalue()}))


@pytest.mark.parametrize("change", [{"format": FORMAT + 1}, {"kind": "../evil"}, {"encoder": {}}, {"origin": {"config": {}}}])
def test_another_format_kind_or_content_is_refused(folder, tmp_path, change):
    manifest = json.loads((folder / MANIFEST).read_text()) | change
    with pytest.raises(ArtefactError):
        load_model(resealed(folder, tmp_path, **{MANIFEST: json.dumps(manifest).encode()}))


@pytest.mark.parametrize("content", [b"[]", b"{}", b"null", b"\xff"])
def test_a_manifest_that_is_none_is_refused(folder, tmp_path, content):
    with pytest.raises(ArtefactError, match="not a manifest"):
        load_model(resealed(folder, tmp_path, **{MANIFEST: content}))


def test_arrays_of_another_shape_or_with_nan_are_refused(folder, tmp_path):
    with np.load(folder / ARRAYS) as stored:
        arrays = dict(stored)
    for broken in ({"by_state": arrays["by_state"][1:]}, {"shared": arrays["shared"] * np.nan}, {"by_state": arrays["by_state"].ravel()}):
        buffer = io.BytesIO()
        np.savez(buffer, **(arrays | broken))
        with pytest.raises(ArtefactError):
            load_model(resealed(folder, tmp_path, **{ARRAYS: buffer.getvalue()}))


def test_a_model_is_replaced_whole_and_a_failed_write_leaves_the_old_one(folder, tmp_path):
    target = tmp_path / "models" / "current"
    model = load_model(folder)
    model.save(target)
    save_model(model, target, extra={"report.json": b"{}"})
    assert sorted(path.name for path in target.iterdir()) == sorted([ARRAYS, MANIFEST, SUMS, "report.json"])
    with pytest.raises(TypeError):
        write_folder(target, {ARRAYS: b"new", MANIFEST: None})
    assert load_model(target).objectives == model.objectives
    assert [path.name for path in target.parent.iterdir()] == ["current"]


def test_the_manifest_says_where_the_model_comes_from(folder, log, config):
    manifest = json.loads((folder / MANIFEST).read_text())
    origin = manifest["origin"]
    assert (manifest["format"], manifest["kind"]) == (FORMAT, "ridge")
    assert origin["training_window"] == ["2024-10-04", "2024-10-17"]
    assert origin["rows"] == len(log)  # production rows teach the ridge too
    assert origin["config"] == config.model_dump(mode="json")
    assert origin["losses"]["validation"] > 0
