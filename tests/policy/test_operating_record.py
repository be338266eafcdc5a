"""operating.json as a record: what is read is what was written, or it is refused."""

import json
from typing import Any

import pytest
from registries import bundle, document

from paretune.errors import ArtefactError
from paretune.policy.operating import decode_operating, identity_of


def test_the_record_says_what_the_document_says() -> None:
    written = document(bundle(), label="constrained")
    found = decode_operating(written)
    assert found.fingerprint == json.loads(written)["sha256"]
    assert (found.label, found.evidence.verdict, found.evidence.probability_degrading) == ("constrained", "confirmed", 0.01)
    assert found.evidence.lifts["estimate"] == (0.01, None)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"format": 2}, "format 2"),
        ({"static": [1.0]}, "1 static weights"),
        ({"scalarisation": []}, "a bundle with a scalarisation, or fixed weights"),
        ({"scalarisation": [0.5]}, "not over the 2 objectives"),
        ({"cohorts": {"new": [1.0]}}, "not over the 2 objectives"),
        ({"weights": [1.0, 2.0, 3.0]}, "a bundle with a scalarisation, or fixed weights"),
        ({"extra": 1}, "unknown field"),
        ({"heads": "save"}, "Expected `array`"),
    ],
)
def test_a_record_that_cannot_be_served_is_refused_with_the_reason(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(ArtefactError, match=problem):
        decode_operating(document(bundle(), **changes))


@pytest.mark.parametrize("lifts", [{}, {"estimate": [0.01, None]}, {"band_high": [0.01]}])
def test_evidence_that_leaves_out_lifts_is_refused_before_a_page_trips_over_it(lifts: dict[str, Any]) -> None:
    told = json.loads(document(bundle()))["evidence"]
    told["lifts"] = {**told["lifts"], **lifts} if "band_high" in lifts else lifts
    with pytest.raises(ArtefactError, match="its evidence does not hold estimate, std_error"):
        decode_operating(document(bundle(), evidence=told))


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"null", b'{"format": NaN}', b"\xff", b"[" * 100_000])
def test_what_is_no_record_is_refused(content: bytes) -> None:
    with pytest.raises(ArtefactError, match="no operating policy"):
        decode_operating(content)


def test_any_changed_number_is_an_altered_record() -> None:
    written = json.loads(document(bundle()))
    for path in (("scalarisation", 0), ("evidence", "users"), ("static", 1), ("evidence", "lifts", "band_low", 0)):
        altered = json.loads(json.dumps(written))
        place = altered
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] += 1
        with pytest.raises(ArtefactError, match="altered after it was written"):
            decode_operating(json.dumps(altered).encode())
        assert identity_of(altered) != written["sha256"]
