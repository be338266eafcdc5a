"""Another policy of a front that is in the registry becomes a draft of its own."""

import json

import pytest
from fronts import CONSTRAINED, KNEE, STATIC_BEST, front_json, operating_json, publish_front, small_front
from registries import ACTIONS, ANNA, BERT, CARA, Clock, bundle, document, fingerprint

from paretune.errors import ArtefactError, ConfigError, ConflictError, NotFoundError
from paretune.policy.operating import decode_operating, identity_of
from paretune.policy.registry import Registry
from paretune.policy.states import State


def test_a_policy_chosen_in_the_registry_is_the_one_that_an_export_would_be(registry: Registry) -> None:
    front = publish_front(registry)
    chosen = registry.choose(front, CONSTRAINED, by=CARA, note="less risk")
    assert (chosen.number, chosen.state, chosen.front, chosen.note) == (2, State.DRAFT, front, "less risk")
    assert chosen.policy == decode_operating(operating_json(small_front(), CONSTRAINED))
    assert registry.verify() == []
    assert registry.audit()[-1].who == CARA
    registry.approve(2, by=BERT)
    assert registry.activate(2, share=0.05, by=CARA).plan.arms[0].scalarisation == (0.75, 0.25)


def test_one_that_is_no_pick_says_what_the_front_says_of_it(registry: Registry) -> None:
    evidence = registry.choose(publish_front(registry), 2, by=CARA).policy.evidence
    assert (evidence.verdict, evidence.probability_degrading) == ("promising: test it", 0.2)


def test_static_weights_need_no_model(registry: Registry) -> None:
    chosen = registry.choose(publish_front(registry), 6, by=CARA).policy
    assert (chosen.bundle, chosen.weights, chosen.scale) == ("", tuple(ACTIONS[2]), None)


def test_what_cannot_be_chosen_is_refused(registry: Registry) -> None:
    front = publish_front(registry)
    with pytest.raises(ConflictError, match="policy 1 already"):
        registry.choose(front, KNEE, by=CARA)
    for policy in (-1, 7):
        with pytest.raises(ConfigError, match=f"no policy {policy}"):
            registry.choose(front, policy, by=CARA)
    with pytest.raises(NotFoundError, match="no policy was published from front"):
        registry.choose("0" * 64, 1, by=CARA)
    files = bundle("other")
    strange = registry.publish(document(files), files, by=ANNA, front=b"{}").front
    with pytest.raises(ArtefactError, match="is no whole front"):
        registry.choose(strange, 1, by=CARA)


def test_the_model_is_that_of_the_front_also_after_a_renewal(registry: Registry, clock: Clock) -> None:
    front = publish_front(registry)
    later = bundle("trained again")
    clock.now += 60
    registry.publish(document(later), later, by=ANNA, renews=1, front=b"{}")
    assert registry.choose(front, CONSTRAINED, by=CARA).policy.bundle == fingerprint(bundle())
    assert [(stored.numbers, stored.by) for stored in registry.fronts()] == [((1,), ANNA), ((1, 2), ANNA)]


def test_the_model_is_that_of_the_newest_policy_that_is_not_retired(registry: Registry) -> None:
    front, again = publish_front(registry), bundle("trained again")
    written = json.loads(operating_json(small_front(), 2))
    written["bundle"] = fingerprint(again)
    del written["sha256"]
    registry.publish(json.dumps({**written, "sha256": identity_of(written)}).encode(), again, by=ANNA, front=front_json(small_front()))
    assert registry.beside(front).bundle == fingerprint(again)
    registry.retire(2, by=BERT)
    assert registry.choose(front, CONSTRAINED, by=CARA).policy.bundle == fingerprint(bundle())
    for number in (1, 3):
        registry.retire(number, by=BERT)
    assert registry.beside(front).bundle == fingerprint(bundle())  # it can still be looked at
    with pytest.raises(ConflictError, match=r"every policy with the model of front .* was retired"):
        registry.choose(front, 1, by=CARA)
    assert registry.choose(front, STATIC_BEST, by=CARA).policy.weights  # fixed weights need none


def test_a_front_of_fixed_weights_alone_has_no_model_to_choose_over(registry: Registry) -> None:
    front = publish_front(registry, policy=STATIC_BEST)
    assert registry.beside(front).bundle == ""
    with pytest.raises(NotFoundError, match="no policy with a model"):
        registry.choose(front, CONSTRAINED, by=CARA)
    publish_front(registry)
    assert registry.choose(front, CONSTRAINED, by=CARA).policy.bundle == fingerprint(bundle())
