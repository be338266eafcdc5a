"""Traffic whose weights come from a decision service: requests as a ranker would send them, and the events that users send back.

The rule of `traffic` holds here too: a request carries what a service knows, an event what a user did; the hidden side of `Arrivals` goes
into neither. Whether rewards, propensities and explored rows survive the way through service, spool, event log and join is then a fact
that can be checked against what really happened.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from paretune.records import OFF_GRID, Floats, Ints
from paretune.serving.decide import Decision, Reason, Request
from paretune.sim.traffic import EPOCH_DAY, Choice, Served, waves
from paretune.sim.world import Arrivals, World

Decide = Callable[[Sequence[Request]], Sequence[Decision]]
_SECONDS_PER_DAY = 86_400


@dataclass(frozen=True, slots=True)
class Operated:
    """A wave of requests, what was decided, and what the users did."""

    requests: tuple[Request, ...]  # (n,)
    decisions: tuple[Decision, ...]  # (n,)
    served: Served


def requests_of(world: World, arrivals: Arrivals, *, session: Ints, position: int, first: int) -> tuple[Request, ...]:
    """Return arrivals as the requests that a ranker sends.

    Args:
        world: names the cohorts.
        arrivals: n requests of one day.
        session: (n,) session of each, unique within the day.
        position: place of these requests in their sessions.
        first: number of the first request within the day; ids count on from it.
    """
    state, day = arrivals.state, arrivals.day
    columns: dict[str, Sequence[object]] = {name: column.tolist() for name, column in state.numeric.items()}
    for name, words in state.categorical.items():
        columns[name] = [words.vocabulary[code] if code >= 0 else None for code in words.codes.tolist()]
    columns |= {name: [row.tobytes() for row in column.astype("<f2")] for name, column in state.embedding.items()}
    columns |= {name: [row.tobytes() for row in column.astype("<i2")] for name, column in state.sequence.items()}
    seconds = np.minimum((arrivals.hour * 3600).astype(np.int64) + 60 * position, _SECONDS_PER_DAY - 1)
    time_us = ((EPOCH_DAY + day) * _SECONDS_PER_DAY + seconds) * 1_000_000
    return tuple(
        Request(
            request_id=f"d{day}-{first + i:09d}",
            user=int(arrivals.user[i]),
            features={name: column[i] for name, column in columns.items() if column[i] is not None},
            cohort=world.cohorts[int(arrivals.cohort[i])],
            session=f"d{day}-{int(session[i])}",
            time_us=int(time_us[i]),
        )
        for i in range(len(arrivals))
    )


def choice_of(decisions: Sequence[Decision]) -> Choice:
    """Return decisions as arrays: the propensities are those that the service reported."""
    action = np.array([OFF_GRID if decision.action is None else decision.action for decision in decisions], dtype=np.int32)
    weights: Floats = np.array([decision.weights for decision in decisions])
    explored = np.array([decision.reason == Reason.EXPLORE for decision in decisions])
    return Choice(action, weights, np.array([decision.propensity for decision in decisions]), explored)


def operate(
    world: World, decide: Decide, *, days: range, sessions_per_day: int, rng: Callable[[int], np.random.Generator]
) -> Iterator[Operated]:
    """Yield waves of traffic, each request decided by the service, each list answered by the world's users.

    Args:
        world: whose users answer.
        decide: asked for each wave, in the order of the requests.
        days: since the world began.
        sessions_per_day: number of sessions that begin on each day.
        rng: source of a day's draws, by day.
    """
    for day in days:
        asked: list[tuple[tuple[Request, ...], tuple[Decision, ...]]] = []
        counted = 0

        def choose(arrivals: Arrivals, session: Ints, position: int) -> Choice:
            nonlocal counted
            requests = requests_of(world, arrivals, session=session, position=position, first=counted)
            counted += len(requests)
            decisions = tuple(decide(requests))
            asked.append((requests, decisions))  # noqa: B023
            return choice_of(decisions)

        for served in waves(world, sessions_per_day, day=day, choose=choose, rng=rng(day)):
            requests, decisions = asked[-1]
            yield Operated(requests, decisions, served)
