"""The chain of the audit trail; pure."""

from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paretune.policy.audit import GENESIS, Entry, append, verify


def trail(n: int = 6) -> list[Entry]:
    entries: list[Entry] = []
    for i in range(n):
        last = entries[-1] if entries else None
        entries.append(append(last, at_us=i, who=f"user {i % 2}", what="ramp", subject=f"plan {i}", detail={"ä": i}, evidence="e" * 64))
    return entries


def test_a_whole_chain_holds_and_an_empty_one_too() -> None:
    assert verify(trail()) is None
    assert verify([]) is None
    assert trail()[0].previous == GENESIS


@pytest.mark.parametrize("field", [field.name for field in fields(Entry)])
@given(place=st.integers(0, 5))
def test_any_altered_field_is_named_at_its_entry_or_the_next(field: str, place: int) -> None:
    entries = trail()
    old: Any = getattr(entries[place], field)
    entries[place] = replace(entries[place], **{field: old + 1 if isinstance(old, int) else old + "x"})
    broken = verify(entries)
    assert broken is not None
    assert broken.seq == place + 1


@given(place=st.integers(0, 4))
def test_an_entry_that_was_taken_out_or_swapped_is_named(place: int) -> None:
    entries = trail()
    taken = verify(entries[:place] + entries[place + 1 :])
    assert taken is not None
    assert taken.seq == place + 1
    entries[place], entries[place + 1] = entries[place + 1], entries[place]
    swapped = verify(entries)
    assert swapped is not None
    assert swapped.seq == place + 1


def test_an_entry_put_in_with_a_good_hash_of_its_own_breaks_the_next() -> None:
    entries = trail()
    forged = append(entries[1], at_us=9, who="mallory", what="approve", subject="policy 1", detail={})
    broken = verify([*entries[:2], forged, *entries[3:]])
    assert broken is not None
    assert (broken.seq, "does not follow" in broken.why) == (4, True)


def test_a_noted_head_finds_a_cut_end_and_a_trail_written_anew() -> None:
    entries = trail()
    head = entries[4].hash
    assert verify(entries, head=head) is None
    assert verify(entries[:5], head=head) is None
    for other in (entries[:4], trail(0)):
        broken = verify(other, head=head)
        assert broken is not None
        assert "noted head" in broken.why
    anew = append(None, at_us=0, who="x", what="y", subject="z", detail={})
    assert verify([anew], head=head) is not None
