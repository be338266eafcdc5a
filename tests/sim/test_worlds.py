"""The simulated feed looks like the paper's (design.md, worlds.md): each fact with what the notes say, what ours is, a tolerance."""

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from paretune.errors import ConfigError
from paretune.frontier.sweep import alpha_grid, choose, scalarise
from paretune.records import PRODUCTION, Floats, Ints
from paretune.seeds import stream
from paretune.sim.homefeed import INTENTS
from paretune.sim.response import exact_values, pool_candidates, ranker_scores
from paretune.sim.traffic import explore_uniformly, serve, union_candidates
from paretune.sim.world import World, open_world
from paretune.surface.contribution import head_contribution
from paretune.surface.lists import top_lists

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@dataclass(frozen=True, slots=True)
class Sample:
    """First requests of a world with everything there is to know of them."""

    world: World
    exact: Floats  # (n, K, M)
    intent: Ints  # (n,) hidden
    counts: Ints  # (n, M) under production
    logged: Floats  # (T, m) scores of logged candidates

    def lifts(self, action: Ints) -> Floats:
        """True relative lifts (M,) of one action per request."""
        return self.exact[np.arange(len(self.exact)), action].mean(axis=0) / self.production - 1

    @property
    def production(self) -> Floats:
        return self.exact[:, PRODUCTION].mean(axis=0)


@pytest.fixture(scope="module", params=["demo", "paper"])
def sample(request: pytest.FixtureRequest) -> Sample:
    return drawn(open_world("homefeed", setting=request.param, seed=0))


def drawn(world: World, n: int = 9000) -> Sample:
    rng = stream(0, "facts")
    days = [world.arrive(n // 3, day=day, rng=rng) for day in (0, 3, 5)]
    production = explore_uniformly(world, 0.0)
    served = [serve(world, a, production(a, rng), session=np.arange(len(a)), position=0, rng=rng) for a in days]
    some = days[0].take(slice(0, 300))
    pool = pool_candidates(some, world.catalogue, ranker_scores(some, world.catalogue))
    union = union_candidates(pool, top_lists(pool, world.surface.actions, world.surface.k))
    return Sample(
        world,
        np.concatenate([exact_values(world, a, world.surface.actions) for a in days]),
        np.concatenate([a.intent for a in days]),
        np.concatenate([s.counts for s in served]),
        union.scores,
    )


def test_saves_and_related_pins_are_as_frequent_as_in_the_notes(sample: Sample) -> None:
    # The notes: .18 and .35 (paper), .22 and .37 (demo). Ours, first requests of sessions: .16 and .42 (paper), .19 and .43 (demo).
    save, p2p = {"paper": (0.18, 0.35), "demo": (0.22, 0.37)}[sample.world.setting]
    assert sample.production[0] == pytest.approx(save, abs=0.05)
    assert sample.production[1] == pytest.approx(p2p, abs=0.09)


def test_more_than_four_fifths_of_requests_have_at_most_one_event(sample: Sample) -> None:
    # The paper: > .80. The notes: .95 and .88 (paper), .91 and .87 (demo). Ours: .97 and .84, .96 and .82.
    at_most_one = (sample.counts <= 1).mean(axis=0)
    assert (at_most_one > 0.80).all()
    assert (at_most_one < 0.99).all()


def test_counts_have_a_long_tail_that_justifies_clipping(sample: Sample) -> None:
    assert sample.counts.max() >= 10
    assert np.array_equal(np.minimum(sample.counts, 1) > 0, sample.counts > 0)


def test_the_two_tuned_heads_carry_nine_tenths_of_utility(sample: Sample) -> None:
    # The paper: about .90 over logged candidates. The notes: .82 to .91 (paper), .75 (demo). Ours: .90 to .92.
    shares = head_contribution(sample.logged, sample.world.surface.static)
    assert 0.75 <= shares[list(sample.world.surface.tuned)].sum() <= 0.94


def test_no_static_pair_of_weights_is_much_better_than_production(sample: Sample) -> None:
    # The notes: 0 to +.35 % (paper), +.2 % (demo) save at unchanged p2p. Ours on the 7 x 7 grid: 0.
    static = sample.exact.mean(axis=0) / sample.production - 1
    assert static[static[:, 1] >= 0, 0].max() < 0.005


def test_weights_that_follow_the_hidden_intent_beat_production_on_both_and_their_average_does_not(sample: Sample) -> None:
    # The gain comes from personalisation: everybody on the average weights loses one of the two (the paper: -.24 % repin).
    world, of_intent = sample.world, np.stack([sample.exact[sample.intent == i].mean(axis=0) for i in range(len(INTENTS))])
    chosen = choose(of_intent / sample.production, scalarise(alpha_grid(101)))  # (intents, alphas)
    lifts = np.stack([sample.lifts(chosen[sample.intent, p]) for p in range(chosen.shape[1])])
    balanced = int(lifts.min(axis=1).argmax())
    assert (lifts[balanced] > 0.005).all()
    average = world.surface.actions[chosen[sample.intent, balanced]].mean(axis=0)
    rng = stream(0, "facts")
    matched = [exact_values(world, world.arrive(3000, day=day, rng=rng), average[None])[:, 0].mean(axis=0) for day in (0, 3, 5)]
    assert (np.mean(matched, axis=0) / sample.production - 1).min() < 0


def test_the_demo_world_differs_from_the_paper_world_in_head_room() -> None:
    def clairvoyant(setting: str) -> float:
        found = drawn(open_world("homefeed", setting=setting, seed=0), 3000)
        best = choose(found.exact / found.production, np.array([[0.5, 0.5]]))[:, 0]
        return float(found.lifts(best).sum())

    assert clairvoyant("demo") > clairvoyant("paper") > clairvoyant("perfect-ranker") > 0


def test_worlds_are_refused_by_name_and_setting() -> None:
    with pytest.raises(ConfigError, match="worlds are homefeed, kuairand"):
        open_world("homefed")
    with pytest.raises(ConfigError, match="settings are demo, paper, perfect-ranker"):
        open_world("homefeed", setting="papr")
    with pytest.raises(ConfigError, match="needs its data"):
        open_world("kuairand")


@pytest.mark.slow
def test_with_a_ranker_that_knows_intents_and_segments_there_is_next_to_nothing_to_gain(monkeypatch: pytest.MonkeyPatch) -> None:
    # Attainable by features: a network fitted on exact values. Ours, seeds 0 and 1: 4.1 and 6.0 %^2 (paper), .014 and .002.
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.delitem(sys.modules, "attainable", raising=False)
    from attainable import attainable_front, best_at_no_loss, hypervolume, requests_with_truth

    def front(setting: str) -> Floats:
        world = open_world("homefeed", setting=setting, seed=0)
        state, truth = requests_with_truth(world, 20_000, seed=0, purpose="judged")
        return attainable_front(world, n=50_000, seed=0, state=state, truth=truth)

    paper, perfect = front("paper"), front("perfect-ranker")
    assert hypervolume(perfect) < 0.05 * hypervolume(paper)
    # The notes: save +1.0 to +1.9 %, p2p +4.3 to +5 %. Ours, seed 0: +1.7 % and +5.0 %.
    save, p2p = best_at_no_loss(paper)
    assert 0.010 < save < 0.025
    assert 0.035 < p2p < 0.065
