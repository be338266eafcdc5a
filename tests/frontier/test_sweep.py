"""Sweeping: choosing, streaming, cohorts, and the front that comes of it."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paretune.config import Cohorts, Config, Evaluation, Guardrail, HeadSection, Objective, SurfaceSection, Tune
from paretune.errors import DataError, GateError, NoOverlapError
from paretune.frontier import curve
from paretune.frontier.assemble import assemble_front, floors_of, signs_of
from paretune.frontier.curve import lift_curve
from paretune.frontier.references import baseline_sums, cohort_policy_sums, matched_static, nearest_grid_action
from paretune.frontier.sweep import Family, Sweep, alpha_grid, choose, choose_each, scalarise, simplex_grid, user_half
from paretune.ope.estimators import reward_at_hit, snips
from paretune.ope.lift import anchored_lift
from paretune.records import Categorical, Log, State

COHORTS = ("CORE", "CASUAL")


def config_of(directions=("maximise", "maximise"), **evaluation):
    return Config(
        surface=SurfaceSection(
            k=5,
            heads=[
                HeadSection(name="save", weight=5.0, tune=Tune(low=1, high=10, levels=3)),
                HeadSection(name="p2p", weight=2.0, tune=Tune(low=1, high=9, levels=3)),
                HeadSection(name="hide", weight=-1.0),
            ],
        ),
        objectives=[Objective(name=n, column=n, direction=d) for n, d in zip(("save", "p2p"), directions, strict=True)],
        guardrails=[Guardrail(objective="p2p", floor_pct=-0.5)],
        cohorts=Cohorts(values=list(COHORTS)),
        evaluation=Evaluation(min_hits=5, replicates=200, **evaluation),
    )


SURFACE = config_of().surface.build()


def world_log(n, seed=0, *, gain=0.15):
    """Rows whose save rate grows with the save weight for one half of the states and falls for the other."""
    rng = np.random.default_rng(seed)
    explored = rng.random(n) < 0.5
    action = np.where(explored, rng.integers(1, 10, n), 0).astype(np.int32)
    taste = rng.choice([-1.0, 1.0], n)
    tilt = np.log(SURFACE.actions[:, 0] / SURFACE.actions[:, 1]) - np.log(2.5)
    means = np.clip(0.4 + gain * np.stack([tilt * taste[:, None], -0.5 * tilt**2 + 0.6 * tilt * taste[:, None]], axis=2), 0.01, 0.99)
    log = Log(
        request=np.arange(n).astype(np.uint64),
        user=rng.integers(0, n // 4, n).astype(np.uint64),
        session=np.arange(n).astype(np.uint64),
        day=np.zeros(n, np.int32),
        cohort=Categorical(rng.integers(-1, 3, n).astype(np.int32), ("CASUAL", "CORE", "NEW")),
        action=action,
        propensity=np.where(explored, 1 / 9, 1.0),
        explored=explored,
        rewards=(rng.random((n, 2)) < means[np.arange(n), action]).astype(np.float32),
        state=State({"taste": taste.astype(np.float32)}, {}, {}, {}),
    )
    return log, means.astype(np.float32)


def swept(log, values, *, chunks=1, alphas=9, expected=False, produced=True, family=None):
    rewards = log.rewards[~log.explored].mean(axis=0)
    family = family or Family(SURFACE.actions, scalarise(alpha_grid(alphas)), 1 / rewards, COHORTS)
    sweep = Sweep(family)
    for rows in np.array_split(np.arange(len(log)), chunks):
        part = log.take(rows)
        e, p = part.explored & (part.action > 0), ~part.explored & (part.action == 0)
        m = np.full((len(rows), 2), 0.37) if expected else None
        sweep.add_explored(part.exploration(), values[rows][e], expected=None if m is None else m[e])
        if produced:
            sweep.add_produced(part.production(), expected=None if m is None else m[p])
    return sweep.sums()


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 20), st.integers(2, 8), st.integers(1, 4), st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_choosing_is_the_argmax_over_the_grid_and_never_production(n, n_actions, objectives, policies, seed):
    rng = np.random.default_rng(seed)
    values, weights = rng.integers(0, 3, (n, n_actions, objectives)).astype(float), rng.integers(0, 3, (policies, objectives)).astype(float)
    chosen = choose(values, weights)
    np.testing.assert_array_equal(chosen, 1 + np.einsum("nkm,pm->npk", values[:, 1:], weights).argmax(axis=2))
    np.testing.assert_array_equal(choose_each(values, np.tile(weights[0], (n, 1))), chosen[:, 0])


def test_simplex_grids_are_distributions_and_the_alpha_grid_is_the_case_of_two():
    grid = simplex_grid(3, 4)
    assert len(grid) == 15
    np.testing.assert_allclose(grid.sum(axis=1), 1)
    assert len(np.unique(grid, axis=0)) == 15
    np.testing.assert_allclose(simplex_grid(2, 24), scalarise(alpha_grid(25)))
    np.testing.assert_allclose(simplex_grid(1, 24), [[1.0]])


@pytest.mark.parametrize("chunks", [2, 7])
def test_chunks_do_not_change_a_sweep(chunks):
    log, values = world_log(3000)
    whole, parts = swept(log, values, expected=True), swept(log, values, expected=True, chunks=chunks)
    np.testing.assert_allclose(anchored_lift(parts.total()).value, anchored_lift(whole.total()).value, rtol=1e-12)
    np.testing.assert_array_equal(parts.choices, whole.choices)
    np.testing.assert_array_equal(parts.users, whole.users)


def test_two_logs_swept_apart_add_up_and_other_families_are_refused():
    log, values = world_log(3000)
    rewards = log.rewards[~log.explored].mean(axis=0)
    family = Family(SURFACE.actions, scalarise(alpha_grid(5)), 1 / rewards, COHORTS)
    first, second = (swept(log.take(rows), values[rows], family=family) for rows in (slice(0, 1000), slice(1000, None)))
    whole = swept(log, values, family=family)
    np.testing.assert_allclose(anchored_lift((first + second).total()).value, anchored_lift(whole.total()).value, rtol=1e-12)
    assert (first + second).n_users() == whole.n_users() == len(np.unique(log.user))
    with pytest.raises(DataError, match="different policy families"):
        first + swept(log, values, alphas=4)


def test_a_sweep_counts_hits_as_the_definition_does():
    log, values = world_log(2000)
    sums = swept(log, values)
    part, scores = log.exploration(), values[log.explored] * sums.family.scale
    for p, weights in enumerate(sums.family.scalarisations):
        chosen = 1 + (scores[:, 1:] @ weights.astype(np.float32)).argmax(axis=1)
        hit = part.action == chosen
        np.testing.assert_allclose(reward_at_hit(sums.total().explored.raw).value[p], part.rewards[hit].mean(axis=0))
        np.testing.assert_allclose(sums.action_shares()[p], np.bincount(chosen, minlength=10) / len(chosen))
    for action in range(1, 10):
        value = reward_at_hit(sums.total().explored.raw).value[sums.size + action - 1]
        np.testing.assert_allclose(value, part.rewards[part.action == action].mean(axis=0))


def test_cohorts_and_halves_partition_the_rows():
    log, values = world_log(2000)
    sums = swept(log, values)
    rows = [sums.cohort(group).explored.raw.rows.sum() for group in range(3)]
    cohort = np.array([*log.cohort.vocabulary, "?"])[log.exploration().cohort.codes]
    assert rows == [(cohort == "CORE").sum(), (cohort == "CASUAL").sum(), np.isin(cohort, ["NEW", "?"]).sum()]
    halves = [sums.total(user_half(half)) for half in (0, 1)]
    assert sum(half.explored.raw.rows.sum() for half in halves) == len(log.exploration())
    assert sums.n_users(user_half(0)) + sums.n_users(user_half(1)) == sums.n_users()


def test_one_trade_off_for_all_cohorts_is_the_global_policy():
    log, values = world_log(2000)
    sums = swept(log, values)
    same = cohort_policy_sums(sums, np.array([4, 4, 4]))
    np.testing.assert_allclose(anchored_lift(same).value[0], anchored_lift(sums.total()).value[4])
    mixed = cohort_policy_sums(sums, np.array([0, 8, 4]))
    part, group = log.exploration(), sums.family.cohort_index(log.exploration().cohort)
    weights = sums.family.scalarisations[np.array([0, 8, 4])][group]
    hit = part.action == choose_each(values[log.explored] * sums.family.scale, weights)
    np.testing.assert_allclose(reward_at_hit(mixed.explored.raw).value[0], part.rewards[hit].mean(axis=0))


@pytest.mark.parametrize("most", [10_000, 10])
def test_the_curve_of_a_sweep_passes_through_its_grid(most, monkeypatch):
    monkeypatch.setattr(curve, "MOST_ROWS", most)
    log, values = world_log(2000)
    sums = swept(log, values, expected=True, chunks=3)
    assert sums.curve.exact == (most == 10_000)
    inner = sums.family.scalarisations[1:-1, 0]
    grid = anchored_lift(sums.total()).value[1 : sums.size - 1]
    np.testing.assert_allclose(lift_curve(sums.curve, sums.total().produced).at(inner), grid, rtol=1e-6, atol=1e-9)


def test_rows_that_cannot_be_swept_are_refused():
    log, values = world_log(200)
    family = Family(SURFACE.actions, scalarise(alpha_grid(5)), np.ones(2), COHORTS)
    sweep = Sweep(family)
    part, scores = log.exploration(), values[log.explored]
    with pytest.raises(DataError, match="shape"):
        sweep.add_explored(part, scores[:, :4])
    with pytest.raises(DataError, match="NaN"):
        sweep.add_explored(part, np.where(np.arange(10)[:, None] == 3, np.nan, scores))
    with pytest.raises(DataError, match="not on the grid"):
        sweep.add_explored(log, values)
    with pytest.raises(DataError, match="scale"):
        Sweep(replace(family, scale=np.array([1.0, np.inf])))


def test_the_front_holds_the_family_the_references_and_the_picks():
    log, values = world_log(20_000)
    front = assemble_front(swept(log, values), SURFACE, config_of(), rng=np.random.default_rng(0))
    kinds = [policy.kind for policy in front.policies]
    assert kinds[0] == "static"
    assert kinds[1:10] == ["alpha"] * 9
    assert {"matched static", "cohort"} <= set(kinds)
    assert front.lifts.policies == tuple(policy.name for policy in front.policies)
    assert (front.lifts.estimate[0] == 0).all()
    assert not front.non_dominated[0]
    assert front.non_dominated[1:10].any()
    assert not front.non_dominated[10:].any()
    assert [pick.label for pick in front.picks] == [
        "save-leaning", "p2p-leaning", "knee", "constrained", "balanced", "cohort knee"
    ]  # fmt: skip
    assert all(0 <= pick.probability_degrading <= 1 for pick in front.picks)
    np.testing.assert_allclose(front.action_shares.sum(axis=1), 1)
    np.testing.assert_allclose(front.mean_weights, front.action_shares @ SURFACE.actions)
    assert front.lifts.estimator == "production-anchored"
    by_label = {pick.label: front.lifts.estimate[pick.policy] for pick in front.picks}
    assert by_label["save-leaning"][0] == front.lifts.estimate[1:10][(front.lifts.estimate[1:10] >= 0).all(axis=1), 0].max()
    matched = front.lifts.estimate[kinds.index("matched static")]
    assert by_label["knee"].sum() > 2 * matched.sum()  # the gain of this world is personal


def test_every_policy_that_is_picked_stands_beside_its_own_average():
    log, values = world_log(3000)
    front = assemble_front(swept(log, values, alphas=25), SURFACE, config_of(), rng=np.random.default_rng(0))
    family = [pick for pick in front.picks if front.policies[pick.policy].kind == "alpha"]
    names = [policy.name.removeprefix("matched static of ").split(" (")[0] for policy in front.policies if policy.kind == "matched static"]
    assert len(names) == len({pick.policy for pick in family}) > 2
    for name in names:
        assert name in {pick.label for pick in family}
    knee = next(pick.policy for pick in family if pick.label == "knee")
    assert {"knee", "constrained"} & {pick.label for pick in family if pick.policy == knee} & set(names)


def test_choosing_on_one_half_reports_on_the_other():
    log, values = world_log(8000)
    sums = swept(log, values)
    front = assemble_front(sums, SURFACE, config_of(), rng=np.random.default_rng(0), halves=True)
    np.testing.assert_allclose(front.lifts.estimate[1:10], anchored_lift(sums.total(user_half(1))).value[:9])
    assert front.lifts.n_users == sums.n_users(user_half(1))
    chosen_on = anchored_lift(sums.total(user_half(0))).value[:9]
    knee = next(pick for pick in front.picks if pick.label == "save-leaning").policy - 1
    assert chosen_on[knee, 0] == chosen_on[(chosen_on >= 0).all(axis=1), 0].max()


def test_halves_that_are_too_thin_say_how_many_rows_would_do():
    log, values = world_log(8000)
    sums = swept(log, values)
    whole = int(anchored_lift(sums.total()).hits[:9].max())
    thin = min(int(anchored_lift(sums.total(user_half(half))).hits[:9].max()) for half in (0, 1))
    config = config_of()
    config = config.model_copy(update={"evaluation": config.evaluation.model_copy(update={"min_hits": whole - 1})})
    with pytest.raises(GateError, match=rf"more than {thin} rows .* rows would do, here are [\d,]+") as refused:
        assemble_front(sums, SURFACE, config, rng=np.random.default_rng(0), halves=True)
    assert "--halves" in refused.value.hint
    rows = int(sums.total().explored.raw.rows.sum())
    needed = int(re.search(r"about ([\d,]+) held-out", str(refused.value))[1].replace(",", ""))
    assert needed >= rows * (whole - 1) / thin
    assert needed < 1.2 * rows * (whole - 1) / thin
    assemble_front(sums, SURFACE, config, rng=np.random.default_rng(0))


def test_without_production_rows_and_with_another_design_snips_speaks():
    log, values = world_log(8000)
    uneven = replace(log, propensity=np.where(log.action == 1, 0.6, log.propensity))
    sums = swept(uneven, values, produced=False)
    front = assemble_front(sums, SURFACE, config_of(), rng=np.random.default_rng(0))
    assert front.lifts.estimator.startswith("SNIPS against")
    raw = sums.total().explored.raw
    nearest = nearest_grid_action(SURFACE, SURFACE.static)
    value = snips(raw).value
    np.testing.assert_allclose(front.lifts.estimate[1:10], value[:9] / value[9 + nearest - 1] - 1)
    assert not np.allclose(reward_at_hit(raw).value[:9], value[:9])
    even = assemble_front(swept(log, values, produced=False), SURFACE, config_of(), rng=np.random.default_rng(0))
    assert even.lifts.estimator.startswith("Reward@HIT against")


def test_without_production_rows_the_front_says_what_stands_for_production():
    log, values = world_log(8000)
    sums = swept(log, values, produced=False)
    front = assemble_front(sums, SURFACE, config_of(), rng=np.random.default_rng(0))
    assert "nearest to production" in front.lifts.estimator
    nearest = nearest_grid_action(SURFACE, SURFACE.static)
    value = reward_at_hit(sums.total().explored.raw).value
    np.testing.assert_allclose(front.lifts.estimate[1:10], value[:9] / value[9 + nearest - 1] - 1)
    np.testing.assert_allclose(reward_at_hit(baseline_sums(sums, SURFACE).explored.raw).value[0], front.lifts.production)


def test_an_objective_to_minimise_is_turned_for_choosing_and_reported_as_it_is():
    log, values = world_log(8000)
    rewards = log.rewards[~log.explored].mean(axis=0)
    family = Family(SURFACE.actions, scalarise(alpha_grid(9)), np.array([1, -1]) / rewards, COHORTS)
    front = assemble_front(swept(log, values, family=family), SURFACE, config_of(("maximise", "minimise")), rng=np.random.default_rng(0))
    lean = next(pick for pick in front.picks if pick.label == "p2p-leaning")
    assert front.lifts.estimate[lean.policy, 1] < -0.02
    assert (signs_of(config_of(("maximise", "minimise"))) == [1, -1]).all()
    np.testing.assert_allclose(floors_of(config_of()), [0, -0.005])


def test_a_log_without_hits_has_no_front():
    log, values = world_log(400)
    log = replace(log, explored=np.zeros(400, bool), action=np.zeros(400, np.int32))
    with pytest.raises(NoOverlapError):
        assemble_front(swept(log, values), SURFACE, config_of(), rng=np.random.default_rng(0))


def test_matched_static_weights_off_the_grid_are_named_as_their_nearest_action():
    exact, action = matched_static(SURFACE, SURFACE.actions[4], of="knee")
    assert action == 4
    assert exact.name == "matched static of knee"
    near, action = matched_static(SURFACE, SURFACE.actions[4] * [1.05, 1, 1], of="knee")
    assert action == 4
    assert "nearest grid action save" in near.name


@pytest.mark.parametrize(("columns", "grid"), [([0], simplex_grid(1, 1)), ([0, 1, 0], simplex_grid(3, 4))])
def test_one_or_three_objectives_make_a_front_too(columns, grid):
    log, values = world_log(6000)
    log, values = replace(log, rewards=log.rewards[:, columns]), values[:, :, columns]
    names = tuple(f"objective{j}" for j in range(len(columns)))
    config = config_of().model_copy(update={"objectives": [Objective(name=name, column=name) for name in names], "guardrails": []})
    family = Family(SURFACE.actions, grid, 1 / log.rewards[~log.explored].mean(axis=0), COHORTS)
    front = assemble_front(swept(log, values, family=family), SURFACE, config, rng=np.random.default_rng(0))
    assert [pick.label for pick in front.picks] == [*(f"{name}-leaning" for name in names), "knee", "constrained", "balanced"]
    assert front.policies[1].alpha is None
    assert front.policies[1].scalarisation == tuple(grid[0])
    assert front.lifts.estimate.shape == (len(front.policies), len(columns))


def test_an_objective_that_production_never_earns_is_refused():
    log, values = world_log(2000)
    idle = replace(log, rewards=log.rewards * np.where(log.explored[:, None], 1, [1, 0]).astype(np.float32))
    family = Family(SURFACE.actions, scalarise(alpha_grid(5)), np.array([2.5, 2.5]), COHORTS)
    with pytest.raises(DataError, match=r"earns nothing of \['p2p'\]"):
        assemble_front(swept(idle, values, family=family), SURFACE, config_of(), rng=np.random.default_rng(0))


def test_twenty_thousand_rows_are_refused_with_the_rows_that_would_tell():
    log, values = world_log(20_000)
    flat = np.broadcast_to(values.mean(axis=0), values.shape)  # a model that knows nobody
    config = config_of().model_copy(update={"evaluation": config_of().evaluation.model_copy(update={"tolerated_risk": 0.02})})
    front = assemble_front(swept(log, flat), SURFACE, config, rng=np.random.default_rng(0))
    assert front.refusal is not None
    assert front.refusal.rows == int(log.explored.sum())
    assert front.refusal.short
    assert f"{front.refusal.needed:,}" in front.refusal.reason
    assert {pick.verdict for pick in front.picks} == {"cannot tell"}


def test_policies_with_too_few_hits_are_refused_whatever_they_promise():
    log, values = world_log(2_000)
    config = config_of()
    config = config.model_copy(update={"evaluation": config.evaluation.model_copy(update={"min_hits": 100_000})})
    front = assemble_front(swept(log, values), SURFACE, config, rng=np.random.default_rng(0))
    assert front.refusal is not None
    assert front.policies[front.refusal.policy].kind == "alpha"


def test_a_cohort_that_production_never_served_is_told_nothing_of():
    log, values = world_log(20_000)
    absent = (log.cohort.codes == 1) & ~log.explored
    sums = swept(log.take(~absent), values[~absent])
    found = assemble_front(sums, SURFACE, config_of(), rng=np.random.default_rng(0)).by_cohort
    unserved = COHORTS.index(log.cohort.vocabulary[1])
    assert np.isnan(found.estimate[unserved]).all()
    assert np.isfinite(np.delete(found.estimate, unserved, axis=0)).any()


def test_picks_are_told_by_cohort_inside_the_bands_of_the_sweep():
    log, values = world_log(20_000)
    sums = swept(log, values)
    front = assemble_front(sums, SURFACE, config_of(), rng=np.random.default_rng(0))
    found = front.by_cohort
    assert found.cohorts == COHORTS
    assert set(found.policies) == {pick.policy for pick in front.picks}
    knee = next(pick.policy for pick in front.picks if pick.label == "knee")
    place = list(found.policies).index(knee)
    for g in range(len(COHORTS)):
        np.testing.assert_allclose(found.estimate[g, place], anchored_lift(sums.cohort(g)).value[knee - 1])
    reach = (found.band_high - found.estimate)[:, place]  # wider than the whole traffic's: fewer rows
    assert (reach > (front.lifts.band_high - front.lifts.estimate)[knee]).all()
    assert front.expectation.mean.shape == front.lifts.estimate.shape
    assert np.isfinite(front.expectation.mean[front.picks[-1].policy]).all()  # the cohort knee
