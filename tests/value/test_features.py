import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_log import make_config, make_state

from paretune.config import Features, SequenceFeature
from paretune.errors import ArtefactError, DataError
from paretune.records import Categorical, State
from paretune.value.features import BUCKETS, LARGEST, Encoder, histograms, windows

FEATURES = make_config().features


def naive_wide(train: State, state: State, features: Features) -> np.ndarray:
    """The definition, one row and one column at a time."""
    rows = []
    numbers = [(name, train.numeric[name][:, None], state.numeric[name][:, None]) for name in features.numeric]
    numbers += [(e.name, train.embedding[e.name], state.embedding[e.name]) for e in features.embeddings]
    for i in range(len(state)):
        row, indicators = [], []
        for _, seen, now in numbers:
            for d in range(seen.shape[1]):
                known = [float(v) for v in seen[:, d] if not np.isnan(v)]
                mean, sd = np.mean(known), np.std(known)
                row.append(0.0 if np.isnan(now[i, d]) else np.clip((float(now[i, d]) - mean) / sd, -LARGEST, LARGEST))
            indicators.append(float(np.isnan(now[i]).any() and np.isnan(seen).any()))
        row += indicators
        for name in features.categorical:
            words = [train.categorical[name].vocabulary[c] for c in train.categorical[name].codes if c >= 0]
            kept = sorted(set(words), key=lambda word: (-words.count(word), word))
            code = state.categorical[name].codes[i]
            word = state.categorical[name].vocabulary[code] if code >= 0 else None
            row += [float(word not in kept), *(float(word == other) for other in kept)]
        for s in features.sequences:
            blocks = np.array([naive_pool(tokens, s) for tokens in train.sequence[s.name]])
            mean, sd = blocks.mean(axis=0), blocks.std(axis=0)
            now = naive_pool(state.sequence[s.name][i], s)
            row += [0.0 if sd[d] < 1e-9 else np.clip((now[d] - mean[d]) / sd[d], -LARGEST, LARGEST) for d in range(len(now))]
        rows.append(row)
    return np.array(rows)


def naive_pool(tokens: np.ndarray, feature: SequenceFeature) -> list[float]:
    bins = min(feature.vocabulary, BUCKETS)
    block = []
    for window in windows(feature.length):
        newest = [int(t) % feature.vocabulary % BUCKETS for t in tokens[-window:] if t >= 0]
        block += [newest.count(b) / max(1, len(newest)) for b in range(bins)]
    return [*block, np.log1p(sum(t >= 0 for t in tokens))]


def test_wide_equals_its_definition_row_by_row():
    train, serve = make_state(120, np.random.default_rng(1)), make_state(25, np.random.default_rng(2))
    encoder = Encoder.fit(train, FEATURES)
    np.testing.assert_allclose(encoder.wide(serve), naive_wide(train, serve, FEATURES), atol=2e-4)


@given(st.integers(1, 12), st.integers(1, 130), st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_histograms_of_any_length_and_vocabulary_equal_their_definition(length, vocabulary, seed):
    tokens = np.random.default_rng(seed).integers(-1, vocabulary, (5, length))
    feature = SequenceFeature(name="s", length=length, vocabulary=vocabulary)
    pooled = histograms(np.where(tokens < 0, 0, tokens + 1), vocabulary)
    np.testing.assert_allclose(pooled, [naive_pool(row, feature) for row in tokens], atol=1e-6)


def test_columns_and_groups_name_every_column_of_wide():
    state = make_state(50, np.random.default_rng(1))
    encoder = Encoder.fit(state, FEATURES)
    assert len(encoder.columns()) == len(encoder.groups) == encoder.wide(state).shape[1]
    assert len(set(encoder.columns())) == len(encoder.columns())
    assert set(encoder.groups) == {"taste", "age", "country", "vector", "history", "items"}
    assert encoder.columns()[: encoder.dense_width] == ("taste", "age", "vector[0]", "vector[1]", "vector[2]", "taste?", "age?", "vector?")
    np.testing.assert_array_equal(encoder.parts(state).dense, encoder.wide(state)[:, : encoder.dense_width])


def test_the_manifest_survives_json_to_the_bit():
    state = make_state(50, np.random.default_rng(1))
    encoder = Encoder.fit(state, FEATURES)
    again = Encoder.from_manifest(json.loads(json.dumps(encoder.manifest())))
    assert again == encoder
    np.testing.assert_array_equal(again.wide(state), encoder.wide(state))
    with pytest.raises(ArtefactError):
        Encoder.from_manifest({"numeric": [{"name": "taste"}]})


def test_a_missing_number_is_the_training_mean_and_its_indicator_fires_only_where_training_saw_one():
    train = make_state(200, np.random.default_rng(1))
    encoder = Encoder.fit(train, FEATURES)
    row = train.take(slice(0, 1))
    missing = replace(row, numeric={name: np.full(1, np.nan, np.float32) for name in row.numeric})
    wide = dict(zip(encoder.columns(), encoder.wide(missing)[0], strict=True))
    assert wide["taste"] == wide["age"] == 0
    assert wide["age?"] == 1  # training held missing ages
    assert wide["taste?"] == 0  # an indicator that never fired has weights that nobody trained


def test_words_are_known_by_their_text_and_not_by_their_code():
    train = make_state(200, np.random.default_rng(1))
    encoder = Encoder.fit(train, FEATURES)
    row = train.take(slice(0, 3))
    one = replace(row, categorical={"country": Categorical(np.array([0, 1, 2], np.int32), ("at", "be", "cy"))})
    other = replace(row, categorical={"country": Categorical(np.array([2, 0, 3], np.int32), ("be", "zz", "at", "cy"))})
    np.testing.assert_array_equal(encoder.wide(one), encoder.wide(other))
    strange = replace(row, categorical={"country": Categorical(np.array([0, -1, 0], np.int32), ("nowhere",))})
    unknown = encoder.wide(strange)[:, encoder.columns().index("country=(unknown)")]
    assert unknown.tolist() == [1, 1, 1]
    assert encoder.parts(strange).categorical.tolist() == [[0], [0], [0]]


def test_an_unknown_word_is_silent_when_training_met_none():
    state = make_state(50, np.random.default_rng(1))
    known = replace(state, categorical={"country": Categorical(np.arange(50, dtype=np.int32) % 2, ("at", "be"))})
    encoder = Encoder.fit(known, FEATURES)
    strange = replace(known, categorical={"country": Categorical(np.full(50, -1, np.int32), ())})
    columns = [i for i, name in enumerate(encoder.groups) if name == "country"]
    assert not encoder.wide(strange)[:, columns].any()


def test_at_most_63_words_are_kept_and_the_rest_is_unknown():
    codes = np.concatenate([np.repeat(np.arange(63), 3), np.arange(63, 100)]).astype(np.int32)
    state = State({}, {"item": Categorical(codes, tuple(f"w{i:03}" for i in range(100)))}, {}, {})
    encoder = Encoder.fit(state, Features(categorical=["item"]))
    assert encoder.categorical[0].words == tuple(f"w{i:03}" for i in range(63))
    assert encoder.wide(state).sum(axis=1).tolist() == [1.0] * len(codes)
    assert encoder.wide(state)[:, 0].sum() == 37


def test_a_constant_column_and_a_wild_value_cannot_do_harm():
    state = State({"constant": np.full(10, 7.0, np.float32), "x": np.arange(10, dtype=np.float32)}, {}, {}, {})
    encoder = Encoder.fit(state, Features(numeric=["constant", "x"]))
    wild = State({"constant": np.array([9.0, 7.0, 3e38]), "x": np.array([1e300, -3e38, 4.5])}, {}, {}, {})
    np.testing.assert_allclose(encoder.wide(wild)[:, :2], [[0, LARGEST], [0, -LARGEST], [0, 0]])


def test_longer_histories_are_cut_and_shorter_ones_padded():
    train = make_state(60, np.random.default_rng(1))
    encoder = Encoder.fit(train, FEATURES)
    longer = replace(train, sequence={k: np.concatenate([np.full((60, 3), 1, v.dtype), v], axis=1) for k, v in train.sequence.items()})
    np.testing.assert_array_equal(encoder.wide(longer), encoder.wide(train))
    short = replace(train, sequence={k: v[:, -2:] for k, v in train.sequence.items()})
    padded = replace(train, sequence={k: np.where(np.arange(v.shape[1]) < v.shape[1] - 2, -1, v) for k, v in train.sequence.items()})
    np.testing.assert_array_equal(encoder.wide(short), encoder.wide(padded))
    assert [tokens.shape for tokens in encoder.parts(short).sequences] == [(60, 6), (60, 4)]


def test_rows_are_encoded_independently():
    state = make_state(300, np.random.default_rng(1))
    encoder = Encoder.fit(state, FEATURES)
    rows = np.random.default_rng(0).permutation(300)[:40]
    np.testing.assert_array_equal(encoder.wide(state.take(rows)), encoder.wide(state)[rows])
    assert encoder.wide(state.take(slice(0, 0))).shape == (0, len(encoder.groups))


@pytest.mark.parametrize("kind", ["numeric", "embedding"])
def test_infinity_is_refused_with_its_row(kind):
    state = make_state(20, np.random.default_rng(1))
    encoder = Encoder.fit(state, FEATURES)
    name, column = next(iter(getattr(state, kind).items()))
    bad = column.astype(np.float32)
    bad[4] = -np.inf
    bad_state = replace(state, **{kind: {**getattr(state, kind), name: bad}})
    for encode in (encoder.wide, encoder.parts, lambda s: Encoder.fit(s, FEATURES)):
        with pytest.raises(DataError, match=rf"'{name}' holds infinity \(first in row 4\)"):
            encode(bad_state)


def test_absent_and_misshapen_columns_are_named():
    state = make_state(20, np.random.default_rng(1))
    encoder = Encoder.fit(state, FEATURES)
    for changed, message in (
        (replace(state, numeric={}), "'taste' is absent"),
        (replace(state, embedding={"vector": np.zeros((20, 4))}), r"'vector' has \(4,\) numbers per row, 3 expected"),
        (replace(state, sequence={"history": np.zeros((20, 6)), "items": state.sequence["items"]}), "'history' has shape"),
        (replace(state, categorical={"country": Categorical(np.full(20, 9, np.int32), ("at",))}), "'country' lie outside"),
    ):
        with pytest.raises(DataError, match=message):
            encoder.wide(changed)
    with pytest.raises(DataError, match="nothing to learn from"):
        Encoder.fit(state, Features())
