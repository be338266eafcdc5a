"""What a request's features may be: read as the model reads them, or refused by name."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paretune.serving.inputs import Feature, Reader
from paretune.serving.scoring import FeatureError

FEATURES = (
    Feature("age", "number", 1, True),
    Feature("taste", "number", 1, False),
    Feature("vector", "vector", 3, False),
    Feature("sparse", "vector", 2, True),
    Feature("country", "text", 1, True, "?"),
    Feature("device", "text", 1, False),
    Feature("history", "tokens", 4, False),
)
READER = Reader(FEATURES)
GOOD = {"age": 30, "taste": 0.5, "vector": [1, 2.5, -3], "sparse": [0.0, 1.0], "country": "at", "device": "tv", "history": [5, 6]}


def test_a_request_becomes_one_row_per_feature():
    inputs = READER.read(GOOD)
    np.testing.assert_array_equal(inputs["age"], np.array([30], np.float32))
    np.testing.assert_array_equal(inputs["vector"], np.array([[1, 2.5, -3]], np.float32))
    np.testing.assert_array_equal(inputs["history"], np.array([[-1, -1, 5, 6]], np.int32))
    assert inputs["country"].tolist() == ["at"]
    assert {name: column.dtype for name, column in inputs.items()} == {
        "age": np.float32,
        "taste": np.float32,
        "vector": np.float32,
        "sparse": np.float32,
        "country": object,
        "device": object,
        "history": np.int32,
    }


@pytest.mark.parametrize("kind", ["<f2", "<f4"])
@pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview])
def test_little_endian_bytes_are_read_as_lists_are(kind, wrap):
    vector = np.array([1.5, -2.25, 3.0], dtype=kind)
    read = READER.read({**GOOD, "vector": wrap(vector.tobytes()), "history": wrap(np.array([1, -1, 7], "<i2").tobytes())})
    np.testing.assert_array_equal(read["vector"], vector.astype(np.float32)[None])
    np.testing.assert_array_equal(read["history"], [[-1, 1, -1, 7]])


def test_arrays_and_numpy_scalars_are_read_too():
    read = READER.read({**GOOD, "vector": np.arange(3.0), "history": np.arange(6), "age": np.float64(3), "taste": np.array(2)})
    np.testing.assert_array_equal(read["vector"], [[0, 1, 2]])
    np.testing.assert_array_equal(read["history"], [[2, 3, 4, 5]])  # older tokens are cut, as in training
    assert (read["age"][0], read["taste"][0]) == (3, 2)


@pytest.mark.parametrize("name", ["age", "sparse", "country"])
def test_what_training_met_missing_may_be_absent_or_null(name):
    without = {key: value for key, value in GOOD.items() if key != name}
    for request in (without, {**GOOD, name: None}):
        read = READER.read(request)[name]
        assert read.tolist() == ["?"] if name == "country" else np.isnan(read).all()


@pytest.mark.parametrize("name", ["taste", "vector", "device", "history"])
def test_what_training_never_met_missing_is_refused_as_missing(name):
    for request in ({key: value for key, value in GOOD.items() if key != name}, {**GOOD, name: None}):
        with pytest.raises(FeatureError, match=name) as caught:
            READER.read(request)
        assert caught.value.missing
        assert caught.value.feature == name


BAD = {
    "taste": [True, "1", [1.0], {}, float("nan"), float("inf"), -1e308, 1e39, 10**400, b"\0\0", np.nan, np.array([1.0]), 1j],
    "vector": [
        1.0,
        "abc",
        {},
        [],
        [1, 2],
        [1, 2, 3, 4],
        [1, 2, True],
        [1, 2, "3"],
        [1, 2, None],
        [1, 2, [3]],
        [1, 2, float("nan")],
        [1, 2, float("inf")],
        [1, 2, 1e308],
        [1, 2, 10**400],
        b"",
        b"12345",
        np.array([1, np.nan, 2], "<f2").tobytes(),
        np.array([1, np.inf, 2], "<f4").tobytes(),
        np.zeros((1, 3)),
        np.array(["a", "b", "c"]),
        np.array([True, False, True]),
        np.array([1, 2, 1e300]),
        np.array([1, 2, np.nan]),
    ],
    "device": [1, 1.0, True, b"tv", ["tv"], "a\0b", "\ud800"],
    "history": [
        1,
        "12",
        {},
        [1.0],
        [True],
        ["1"],
        [None],
        [-2],
        [2**31],
        [10**400],
        b"1",
        np.array([-5], "<i2").tobytes(),
        np.array([1.5]),
        np.array([2**40]),
        np.array([-3]),
        np.zeros((1, 4), int),
    ],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in BAD.items() for value in values], ids=lambda v: repr(v)[:30])
def test_a_wrong_value_is_refused_by_the_name_of_its_feature(name, value):
    with pytest.raises(FeatureError) as caught:
        READER.read({**GOOD, name: value})
    assert caught.value.feature == name
    assert not caught.value.missing


def test_an_empty_history_is_a_history():
    for empty in ([], (), b"", np.empty(0, np.int64)):
        np.testing.assert_array_equal(READER.read({**GOOD, "history": empty})["history"], [[-1] * 4])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.binary(max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from([feature.name for feature in FEATURES]), JSON))
@settings(max_examples=2000, deadline=None)
def test_whatever_is_sent_is_read_to_finite_rows_or_refused_by_name(request_features):
    try:
        inputs = READER.read({**GOOD, **request_features})
    except FeatureError as error:
        named = error.feature
        inputs = None
    if inputs is None:
        assert named in GOOD
        return
    for feature in FEATURES:
        column = inputs[feature.name]
        assert len(column) == 1
        if feature.kind in {"number", "vector"}:
            assert np.isfinite(column).all() or (feature.missing and np.isnan(column).all())
        elif feature.kind == "tokens":
            assert column.shape == (1, feature.size)
            assert column.min() >= -1
