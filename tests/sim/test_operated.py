"""Traffic through a decision function: requests carry what a service knows, choices are what it answered."""

import numpy as np
import pytest

from paretune.records import OFF_GRID
from paretune.seeds import stream
from paretune.serving.decide import Decision, Reason, Request
from paretune.sim import open_world
from paretune.sim.operated import Operated, operate
from paretune.sim.world import World


@pytest.fixture(scope="module")
def world() -> World:
    return open_world("homefeed", setting="demo", seed=3)


def decided(requests: tuple[Request, ...], world: World) -> list[Decision]:
    """Explores every third request with action 5, serves weights off the grid to every other one."""
    static, grid = tuple(world.surface.static.tolist()), tuple(world.surface.actions[5].tolist())
    odd = tuple(1.01 * weight for weight in static)
    explored = {True: (grid, 5, Reason.EXPLORE, 1 / 49), False: (odd, None, Reason.POLICY, 1.0)}
    return [
        Decision(request.request_id, *explored[i % 3 == 0][:2], "", 1, explored[i % 3 == 0][3], explored[i % 3 == 0][2])
        for i, request in enumerate(requests)
    ]


def waves_of(world: World, seed: int) -> list[Operated]:
    return list(
        operate(
            world,
            lambda requests: decided(tuple(requests), world),
            days=range(2),
            sessions_per_day=200,
            rng=lambda day: stream(seed, "operated", day),
        )
    )


def test_a_request_carries_the_state_and_nothing_hidden(world: World) -> None:
    one = waves_of(world, 1)[0]
    state = one.served.arrivals.state
    for i in (0, 17):
        features = one.requests[i].features
        for name, column in state.numeric.items():
            assert features[name] == pytest.approx(float(column[i]))
        for name, vector in state.embedding.items():
            np.testing.assert_allclose(np.frombuffer(features[name], "<f2"), vector[i], atol=2e-3)
        for name, tokens in state.sequence.items():
            np.testing.assert_array_equal(np.frombuffer(features[name], "<i2"), tokens[i])
        known = {*state.numeric, *state.categorical, *state.embedding, *state.sequence}
        assert set(features) <= known


def test_request_ids_are_unique_and_sessions_go_on(world: World) -> None:
    waves = waves_of(world, 1)
    ids = [request.request_id for wave in waves for request in wave.requests]
    assert len(ids) == len(set(ids)) > 500
    assert {wave.served.position[0] for wave in waves} >= {0, 1}
    later = next(wave for wave in waves if wave.served.position[0] == 1)
    first = {request.session: request.user for request in waves[0].requests} if later.requests[0].session.startswith("d0") else {}
    assert all(first[request.session] == request.user for request in later.requests)


def test_what_was_decided_is_what_users_were_served(world: World) -> None:
    for wave in waves_of(world, 2):
        choice = wave.served.choice
        for i, decision in enumerate(wave.decisions):
            assert tuple(choice.weights[i]) == decision.weights
            assert choice.action[i] == (OFF_GRID if decision.action is None else decision.action)
            assert choice.propensity[i] == decision.propensity
            assert choice.explored[i] == (decision.reason == Reason.EXPLORE)
