from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paretune.config import Objective
from paretune.errors import DataError
from paretune.logs.hashing import hash_integers, hash_texts, mixed, salted
from paretune.logs.reward import rewards
from paretune.logs.split import time_split


@given(st.sets(st.integers(0, 30_000), min_size=2, max_size=40), st.data())
def test_the_hold_out_is_later_than_every_training_day_and_as_long_as_asked(days, data):
    hold_out_days = data.draw(st.integers(1, len(days) - 1))
    train_days = data.draw(st.integers(1, len(days) - hold_out_days))
    train, hold_out = time_split(np.repeat(list(days), 2), train_days=train_days, hold_out_days=hold_out_days)
    assert (len(train), len(hold_out)) == (train_days, hold_out_days)
    assert max(train) < min(hold_out)
    assert list(train + hold_out) == sorted(days)[-train_days - hold_out_days :]


def test_too_few_days_are_refused_with_the_keys_to_lower():
    with pytest.raises(DataError, match=r"has 3 days.*needs 14 to train and 7(?s:.*)evaluation.train_days"):
        time_split(np.array([1, 2, 3, 3]), train_days=14, hold_out_days=7)


def test_salts_draw_independent_halves():
    user = hash_integers(np.arange(100_000))
    a, b = (salted(user, salt) >> np.uint64(63) == 1 for salt in ("choose", "again"))
    for share in (a.mean(), b.mean(), (a == b).mean()):
        assert abs(share - 0.5) < 4 * 0.5 / np.sqrt(100_000)
    assert (salted(user[::-1], "choose")[::-1] == salted(user, "choose")).all()


def finaliser(z: int) -> int:
    """splitmix64, word for word, in Python integers."""
    z = (z + 0x9E3779B97F4A7C15) % 2**64
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) % 2**64
    return z ^ (z >> 31)


def test_hashes_are_their_definition_on_every_machine():
    assert mixed(np.array([0], np.uint64))[0] == 0xE220A8397B1DCDAF  # published first output of splitmix64 from state 0
    assert hash_integers(np.array([0, 1, -1])).tolist() == [finaliser(0), finaliser(1), finaliser(2**64 - 1)]
    text, long = b"a user id", b"x" * 300
    words = [int.from_bytes(text[:8], "little"), int.from_bytes(text[8:], "little")]
    expected = finaliser(finaliser(finaliser(len(text)) ^ words[0]) ^ words[1])
    digest = hashlib.blake2b(long).digest()
    folded = finaliser(len(long))
    for word in range(8):
        folded = finaliser(folded ^ int.from_bytes(digest[8 * word : 8 * word + 8], "little"))
    assert hash_texts([text, long, b""]).tolist() == [expected, folded, finaliser(0)]
    key = int.from_bytes(hashlib.blake2b(b"salt", digest_size=8).digest(), "little")
    assert salted(np.array([7], np.uint64), "salt")[0] == finaliser(7 ^ key)


@given(st.lists(st.binary(max_size=300), unique=True, min_size=1, max_size=30))
def test_a_text_hashes_alone_as_in_company_and_differs_from_others(texts):
    hashes = hash_texts(texts)
    assert len(set(hashes.tolist())) == len(texts)
    assert [hash_texts([text])[0] for text in texts] == hashes.tolist()


@given(st.integers(-(2**31), 2**31 - 1))
def test_an_integer_hashes_the_same_in_every_width(value):
    assert hash_integers(np.array([value], np.int32))[0] == hash_integers(np.array([value], np.int64))[0]


def test_rewards_are_the_transforms_word_for_word_and_minimise_changes_nothing():
    objectives = [
        Objective(name="a", column="a"),
        Objective(name="b", column="b", transform="log1p", direction="minimise"),
        Objective(name="c", column="c", transform="identity"),
    ]
    result = rewards(np.array([[0.0, 0.0, -2.5], [7.0, 3.0, 4.0]]), objectives)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, [[0, 0, -2.5], [1, np.log(4), 4]], rtol=1e-6)
    with pytest.raises(DataError, match="3 objectives"):
        rewards(np.zeros((2, 2)), objectives)


def test_two_levels_are_one_for_any_event_and_half_more_for_several():
    counts = np.arange(6.0)[:, None]
    result = rewards(counts, [Objective(name="a", column="a", transform="two-level")])
    np.testing.assert_array_equal(result[:, 0], [0, 1, 1.5, 1.5, 1.5, 1.5])
    np.testing.assert_array_equal(result[:, 0], (counts[:, 0] >= 1) + 0.5 * (counts[:, 0] >= 2))
