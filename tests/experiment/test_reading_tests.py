"""A test is read out of its logs as a peer library reads it from the same rows; what must not be compared is refused."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import tea_tasting as tt

from paretune.config import Config, load_config
from paretune.errors import ConfigError, DataError, LogError
from paretune.experiment.metrics import SUCCESSFUL_SESSIONS, metrics_of
from paretune.experiment.reading import Asked, chosen_days, compared, read_test
from paretune.experiment.sample_ratio import plan_shares
from paretune.policy.plan import Arm, Plan
from paretune.records import Floats

ASKED = Asked({"control": 0.4, "saver": 0.4, "static": 0.2}, days="3:", planned_days=4)


@pytest.fixture(scope="module")
def config(tested: Path) -> Config:
    return load_config(tested.parent / "paretune.toml")


@pytest.fixture(scope="module")
def rows(tested: Path, config: Config) -> pl.DataFrame:
    frame = pl.read_parquet(tested / "day=*" / "*.parquet", hive_partitioning=True)
    clipped = [pl.col(o.column).clip(upper_bound=1).cast(pl.Float64).alias(o.name) for o in config.objectives]
    return frame.with_columns(clipped).with_columns(before=pl.col("day").cast(pl.String) < "2026-01-03")


def by_user(rows: pl.DataFrame, config: Config) -> pl.DataFrame:
    """A row per user of the test, as somebody who knows nothing of this package would make it."""
    names = [objective.name for objective in config.objectives]
    good = pl.any_horizontal(*(pl.col(o.name) > 0 for o in config.objectives if o.direction == "maximise"))

    def part(frame: pl.DataFrame, prefix: str) -> pl.DataFrame:
        made = frame.group_by("user", "session").agg(success=good.any().cast(pl.Float64))
        made = made.group_by("user").agg(
            pl.len().cast(pl.Float64).alias(f"{prefix}sessions"), pl.col("success").sum().alias(f"{prefix}success")
        )
        sums = [pl.col(name).sum().alias(f"{prefix}{name}") for name in names]
        return frame.group_by("user").agg(pl.len().cast(pl.Float64).alias(f"{prefix}requests"), *sums).join(made, on="user")

    test = rows.filter(~pl.col("before"))
    arm = test.group_by("user").agg(pl.col("arm").first())
    earlier = part(rows.filter("before"), "b_")
    return part(test, "").join(arm, on="user").join(earlier, on="user", how="left").fill_null(0.0)


@pytest.mark.parametrize("pre_days", ["", "1:2"])
def test_the_readout_of_a_log_is_a_peer_library_s_of_the_same_rows(tested: Path, config: Config, rows: pl.DataFrame, pre_days: str) -> None:
    found, exposed = read_test(tested, config, replace(ASKED, pre_days=pre_days))
    assert exposed.arms == ("control", "saver", "static")
    assert (found.control, found.arms) == ("control", ("saver",))

    def ratio(above: str, below: str) -> tt.RatioOfMeans:
        earlier = {"numer_covariate": f"b_{above}", "denom_covariate": f"b_{below}"} if pre_days else {}
        return tt.RatioOfMeans(above, below, **earlier)

    metrics = {o.name: ratio(o.name, "requests") for o in config.objectives} | {SUCCESSFUL_SESSIONS: ratio("success", "sessions")}
    users = by_user(rows, config).filter(pl.col("arm") != "static")
    peer = tt.Experiment(metrics, variant="arm").analyze(users, control="control")
    for m, metric in enumerate(found.metrics):
        said = peer[metric.name]
        ours = [found.value[0, m], found.value[1, m], found.lift[0, m], found.low[0, m], found.high[0, m]]
        theirs = [said.control, said.treatment, said.rel_effect_size, said.rel_effect_size_ci_lower, said.rel_effect_size_ci_upper]
        np.testing.assert_allclose(ours, theirs, atol=1e-9, err_msg=metric.name)


def test_the_split_is_counted_in_users_and_matches_the_plan(tested: Path, config: Config, rows: pl.DataFrame) -> None:
    found, exposed = read_test(tested, config, ASKED)
    users = rows.filter(~pl.col("before")).group_by("arm").agg(pl.col("user").n_unique()).sort("arm")
    assert dict(zip(found.ratio.arms, found.ratio.seen.tolist(), strict=True)) == dict(users.iter_rows())
    assert not found.ratio.failed
    assert exposed.moved == exposed.armless == 0
    assert all(0.03 < share < 0.07 for share in exposed.explored.values())
    wrong = replace(ASKED, shares={"control": 0.5, "saver": 0.3, "static": 0.2})
    assert read_test(tested, config, wrong)[0].blocked


def test_an_arm_that_saves_more_is_seen_to(tested: Path, config: Config) -> None:
    found, _ = read_test(tested, config, ASKED)
    names = [metric.name for metric in found.metrics]
    assert names == ["save", "p2p", "hide", SUCCESSFUL_SESSIONS]
    assert found.verdicts[0].answer == "harms"
    assert "p2p" in found.verdicts[0].sentence
    assert len(found.days) == 4
    assert [metric.sign for metric in found.metrics] == [1, 1, -1, 1]


def test_however_the_files_are_cut_the_readout_is_the_same(tested: Path, config: Config, tmp_path: Path) -> None:
    flat = pl.read_parquet(tested / "day=*" / "*.parquet", hive_partitioning=True).sample(fraction=1.0, shuffle=True, seed=1)
    for part in range(3):
        flat[part::3].write_parquet(tmp_path / f"{part}.parquet")
    whole, _ = read_test(tested, config, replace(ASKED, pre_days="1:2", by_cohort=True))
    cut, _ = read_test(tmp_path, config, replace(ASKED, pre_days="1:2", by_cohort=True))
    for name in ("lift", "std_error", "band_low", "watched_low", "value"):
        np.testing.assert_allclose(getattr(cut, name), getattr(whole, name), rtol=1e-9, err_msg=name)
    assert whole.by_cohort is not None
    assert cut.by_cohort is not None
    np.testing.assert_allclose(cut.by_cohort.lift, whole.by_cohort.lift)
    np.testing.assert_allclose(whole.by_cohort.users.sum(axis=0), whole.users)


def test_what_users_did_while_the_arm_was_served_is_no_time_before(tested: Path, config: Config) -> None:
    with pytest.raises(ConfigError, match=r"served \['saver'\] already"):
        read_test(tested, config, replace(ASKED, pre_days="1:3", days="4:"))
    with pytest.raises(ConfigError, match="do not lie before"):
        read_test(tested, config, replace(ASKED, pre_days="1:3"))


def test_days_are_dates_or_numbers_of_the_log() -> None:
    known = [20_454, 20_455, 20_457]
    for span, days in {"2:3": known[1:], ":2": known[:2], "2:": known[1:], "2": [known[1]], "2026-01-01:2026-01-03": known[:2]}.items():
        assert chosen_days(span, known) == days, span
    for span in ("x", "0:2", "4", "2026-13-01:"):
        with pytest.raises(ConfigError, match="no span of days"):
            chosen_days(span, known)
    with pytest.raises(ConfigError, match="has no day in"):
        chosen_days("2025-01-01:2025-01-09", known)


def test_the_control_is_named_or_control_or_static() -> None:
    units = {"static": 5, "new": 4}
    assert compared(("new", "static"), units, Asked({})) == ("static", "new")
    assert compared(("a", "control", "static"), {"a": 1, "control": 1, "static": 1}, Asked({})) == ("control", "a")
    with pytest.raises(ConfigError, match="nobody is in arm 'x'"):
        compared(("new", "static"), units, Asked({}, control="x"))
    with pytest.raises(ConfigError, match="to compare with 'static'"):
        compared(("static",), {"static": 3}, Asked({}))


def test_shares_of_a_plan_are_those_of_its_arms_and_of_its_default() -> None:
    heads = {"heads": ("a",), "static": (1.0,)}
    plan = Plan(3, **heads, arms=(Arm("control", 0.1), Arm("new", 0.2)))  # type: ignore[arg-type]
    assert plan_shares(plan) == pytest.approx({"control": 0.1, "new": 0.2, "static": 0.7})
    ramped = Plan(3, **heads, arms=(Arm("control", 0.1), Arm("new", 0.2)), default="new")  # type: ignore[arg-type]
    assert plan_shares(ramped) == pytest.approx({"control": 0.1, "new": 0.9})
    with pytest.raises(ConfigError, match="killed"):
        plan_shares(Plan(3, **heads, killed=True))  # type: ignore[arg-type]


def test_margins_are_asked_for_or_the_guardrail_s_or_the_smallest_lift(config: Config) -> None:
    columns = ("requests", "sessions", "successful", "reward:0", "reward:1", "reward:2")
    margins = {metric.name: metric.margin for metric in metrics_of(config, columns, margins={"p2p": 0.03})}
    floor = abs(config.guardrails[0].floor_pct) / 100
    assert margins == pytest.approx({"save": 0.01, "p2p": 0.03, config.guardrails[0].objective: floor, SUCCESSFUL_SESSIONS: 0.01})
    assert len(metrics_of(config, columns, sessions=False)) == 3
    for wrong, said in (({"nothing": 0.1}, "no metric"), ({"save": -0.1}, "a margin of -10 %")):
        with pytest.raises(ConfigError, match=said):
            metrics_of(config, columns, margins=wrong)


def test_a_log_without_arms_or_cohorts_says_so(tested: Path, config: Config, tmp_path: Path) -> None:
    shutil.copytree(tested, tmp_path / "logs")
    for file in (tmp_path / "logs").glob("*/*.parquet"):
        pl.read_parquet(file).drop("arm").write_parquet(file)
    with pytest.raises(LogError, match="no column 'arm'"):
        read_test(tmp_path / "logs", config, ASKED)
    for file in (tmp_path / "logs").glob("*/*.parquet"):
        pl.read_parquet(file).drop("cohort").with_columns(arm=pl.lit("control")).write_parquet(file)
    with pytest.raises(ConfigError, match="nobody is in an arm to compare with"):
        read_test(tmp_path / "logs", config, ASKED)
    for file in (tmp_path / "logs").glob("*/*.parquet"):
        pl.read_parquet(file).with_columns(
            arm=pl.when(pl.col("user") % 2 == 0).then(pl.lit("control")).otherwise(pl.lit("saver"))
        ).write_parquet(file)
    with pytest.raises(DataError, match="no cohorts to tell apart"):
        read_test(tmp_path / "logs", config, replace(ASKED, by_cohort=True))


def test_sessions_and_requests_may_be_what_was_assigned(tested: Path, config: Config, tmp_path: Path) -> None:
    shutil.copytree(tested, tmp_path / "logs")
    for file in (tmp_path / "logs").glob("*/*.parquet"):
        frame = pl.read_parquet(file)
        frame.with_columns(
            arm=pl.when(pl.col("session").hash(1) % 2 == 0).then(pl.lit("control")).otherwise(pl.lit("saver"))
        ).write_parquet(file)
    even = {"control": 0.5, "saver": 0.5}
    by_session, exposed = read_test(tmp_path / "logs", config, Asked(even, planned_days=6, unit="session"))
    assert by_session.ratio.unit == "sessions"
    assert not by_session.blocked
    assert exposed.moved > 0  # users are in both arms, which is no fault here
    lifts: Floats = np.abs(by_session.lift) / by_session.std_error
    assert (lifts < 4).all()
    assert read_test(tmp_path / "logs", config, Asked(even))[0].blocked.endswith("users changed their arm meanwhile")
    with pytest.raises(ConfigError, match="says nothing of sessions"):
        read_test(tmp_path / "logs", config, Asked(even, unit="session", pre_days="1:1", days="2:"))
    by_request, _ = read_test(tmp_path / "logs", config, Asked(even, unit="request"))
    assert SUCCESSFUL_SESSIONS not in [metric.name for metric in by_request.metrics]
