from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from paretune.config import Config
from paretune.errors import ConfigError, LogError
from paretune.logs.checks import LogCheck, RuleResult, Tally, mean_weights, whole_log_rules
from paretune.logs.inspection import check_log
from paretune.logs.parquet import binary, read_log, write_day
from paretune.records import Categorical, Log, State

LOUD = {  # label -> (column, bad value)
    "propensity_range:propensity": ("propensity", -0.1),
    "propensity_design:propensity": ("propensity", 0.5),
    "count_finite:saves": ("saves", float("nan")),
    "count_whole:saves": ("saves", 0.5),
    "feature_sound:age": ("age", float("-inf")),
    "feature_sound:emb": ("emb", np.full(4, np.inf, "<f2").tobytes()),
    "label_mature:label_age_h": ("label_age_h", 2.0),
    "id_known:user": ("user", None),
    "weights_match:weights": ("weights", np.array([1, 2, 3], "<f4").tobytes()),
    "candidates_sound:candidate_scores": ("candidate_scores", np.ones(4, "<f2").tobytes()),
    "fallback_static:reason": ("reason", "FALLBACK(timeout)"),
}


def result(check: LogCheck, name: str) -> RuleResult:
    return next(rule for rule in check.rules if rule.name == name)


def uniform_log(config: Config, n: int, seed: int, chances=None, propensity=None) -> Log:
    """Return exploration rows without features; drawn by `chances`, logged as `propensity` (default uniform)."""
    rng = np.random.default_rng(seed)
    grid = len(config.surface.build()) - 1
    action = rng.choice(np.arange(1, grid + 1), n, p=chances).astype(np.int32)
    mu = np.full(grid + 1, 1 / grid) if propensity is None else np.concatenate([[1], propensity])
    hashes = np.arange(n, dtype=np.uint64)
    cohort = Categorical(np.zeros(n, np.int32), ("ALL",))
    return Log(
        hashes, hashes, hashes, np.zeros(n, np.int32), cohort, action, mu[action], np.ones(n, bool), np.zeros((n, 2)), State({}, {}, {}, {})
    )


def test_a_good_log_passes_and_is_counted(tmp_path, config, rows_of):
    for day in range(3):
        write_day(tmp_path, 20_000 + day, rows_of(500, day))
    check = check_log(tmp_path, config)
    log = read_log(tmp_path, config)
    assert check.ok
    assert check.broken("warning") == ()
    assert (check.rows, check.good, check.bad, check.quarantined) == (1500, 1500, 0, 0)
    assert check.days == (20_000, 20_001, 20_002)
    assert check.explored == log.explored.sum()
    assert check.production == len(log.production())
    assert check.users == len(np.unique(log.user))
    assert check.per_action.tolist() == np.bincount(log.action[log.explored], minlength=10).tolist()
    assert abs(check.mean_weight[1:].mean() - 1) < 1e-12


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.integers(0, 59), st.sampled_from(sorted(LOUD)), max_size=12), st.integers(0, 99))
def test_planted_bad_rows_are_all_quarantined_and_no_good_row_is_lost(tmp_path_factory, config, rows_of, planted, seed):
    folder = tmp_path_factory.mktemp("log")
    columns = rows_of(60, seed)
    explored = columns["reason"] == "EXPLORE"
    everywhere = {label for label in LOUD if label.split(":")[0] not in {"propensity_design", "fallback_static"}}
    planted = {row: label for row, label in planted.items() if explored[row] or label in everywhere}
    frame = {name: pl.Series(name, values).to_list() for name, values in columns.items()}
    for row, label in planted.items():
        column, value = LOUD[label]
        frame[column][row] = value
    frame = {name: pl.Series(name, values, strict=False) for name, values in frame.items()}
    write_day(folder / "log", 20_000, {**frame, "note": list(range(60))})
    check = check_log(folder / "log", config, quarantine=folder / "bad", clean=folder / "good")
    assert (check.rows, check.bad, check.quarantined) == (60, len(planted), len(planted))
    good = pl.read_parquet(folder / "good" / "**" / "*.parquet", hive_partitioning=False)
    assert sorted(good["note"]) == sorted(set(range(60)) - set(planted))
    assert len(read_log(folder / "good", config, candidates=True)) == check.good
    if planted:
        bad = pl.read_parquet(folder / "bad" / "day=2024-10-04" / "*.parquet", hive_partitioning=False)
        assert sorted(bad["note"]) == sorted(planted)
        for row, rules in zip(bad["note"], bad["broken_rules"], strict=True):
            assert planted[row] in rules.split(", ")
        for label in planted.values():
            assert not result(check, label.split(":")[0]).ok
        assert not check.ok


def test_good_and_bad_rows_are_not_written_to_one_folder(tmp_path, config, rows_of):
    write_day(tmp_path / "log", 20_000, rows_of(20))
    with pytest.raises(ConfigError, match="good rows and bad"):
        check_log(tmp_path / "log", config, quarantine=tmp_path / "out", clean=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_broken_rule_names_file_column_rows_and_remedy(tmp_path, config, rows_of):
    columns = rows_of(50)
    columns["propensity"][[4, 9, 30, 31]] = 7
    path = write_day(tmp_path, 20_000, columns)
    rule = result(check_log(tmp_path, config), "propensity_range")
    assert (rule.ok, rule.severity, rule.rows) == (False, "error", 4)
    assert rule.where == f"{path}: column 'propensity', rows 4, 9, 30"
    assert rule.expected == "a number in (0, 1]"
    assert "--quarantine" in rule.remedy


def test_duplicates_across_days_and_files_keep_the_first_good_row(tmp_path, config, rows_of):
    first, second, third = rows_of(40, 1), rows_of(40, 2), rows_of(40, 3)
    second["request_id"][5] = first["request_id"][3]
    third["request_id"][6] = first["request_id"][3]
    third["request_id"][7] = first["request_id"][8]
    first["propensity"][8] = np.nan  # bad itself, so the later row with its id is the good one
    write_day(tmp_path / "log", 20_000, first)
    write_day(tmp_path / "log", 20_001, second)
    write_day(tmp_path / "log", 20_001, third, part=1)
    check = check_log(tmp_path / "log", config, quarantine=tmp_path / "bad")
    rule = result(check, "request_unique")
    assert (rule.ok, rule.rows, check.bad) == (False, 2, 3)
    assert "day=2024-10-05/part-0.parquet: column 'request_id', row 5" in rule.where
    assert "day=2024-10-05/part-1.parquet: column 'request_id', row 6" in rule.where
    bad = pl.read_parquet(tmp_path / "bad" / "**" / "*.parquet", hive_partitioning=False)
    assert sorted(bad["broken_rules"]) == ["propensity_range:propensity, propensity_design:propensity", *["request_unique:request_id"] * 2]


def test_an_unreadable_file_is_named_and_the_others_are_checked(tmp_path, config, rows_of):
    write_day(tmp_path, 20_000, rows_of(40, 1))
    torn = write_day(tmp_path, 20_001, rows_of(40, 2))
    torn.write_bytes(torn.read_bytes()[:500])
    check = check_log(tmp_path, config)
    assert not check.ok
    assert str(torn) in result(check, "readable").where
    assert check.rows == 40


def test_an_unserved_draw_may_not_pose_as_exploration(tmp_path, config, surface, rows_of):
    columns = rows_of(40)
    row = int(np.flatnonzero(columns["reason"] == "EXPLORE")[0])
    columns["action"][row] = 0
    columns["weights"] = binary(surface.actions[columns["action"]].astype(np.float32))
    write_day(tmp_path, 20_000, columns)
    rule = result(check_log(tmp_path, config), "explored_not_static")
    assert (rule.ok, rule.rows) == (False, 1)
    assert "FALLBACK" in rule.remedy


def test_too_few_candidates_are_bad_rows(tmp_path, config, rows_of):
    columns = rows_of(40)
    ids, scores = columns["candidate_ids"].to_list(), columns["candidate_scores"].to_list()
    ids[0], scores[0] = np.arange(2, dtype="<i4").tobytes(), np.ones(6, "<f2").tobytes()
    write_day(tmp_path, 20_000, columns | {"candidate_ids": ids, "candidate_scores": scores})
    assert result(check_log(tmp_path, config), "candidates_enough").rows == 1


def test_propensities_of_one_and_labels_without_age_are_said(tmp_path, config, rows_of):
    raw = config.model_dump()
    raw["exploration"]["design"] = "logged"
    columns = rows_of(300)
    columns["propensity"][:] = 1
    write_day(tmp_path, 20_000, {k: v for k, v in columns.items() if k != "label_age_h"})
    check = check_log(tmp_path, Config.model_validate(raw))
    assert not result(check, "propensity_logged").ok
    assert not result(check, "mean_weight").ok
    assert (result(check, "label_mature").ok, result(check, "label_mature").severity) == (False, "warning")


def test_off_grid_rows_busy_users_empty_features_gaps_and_strange_cohorts_are_warned_of(tmp_path, config, surface, rows_of):
    raw = config.model_dump()
    raw["cohorts"]["values"] = ["CORE"]
    columns = rows_of(400)
    columns["user"][:200] = 0
    columns["age"][:250] = np.nan
    columns["action"][:20] = -1
    columns["weights"] = binary((surface.actions[columns["action"]] + (columns["action"] < 0)[:, None] / 2).astype(np.float32))
    write_day(tmp_path, 20_000, columns)
    write_day(tmp_path, 20_005, rows_of(10, 1))
    check = check_log(tmp_path, Config.model_validate(raw))
    assert {rule.name for rule in check.broken("warning")} == {
        "on_grid",
        "rows_per_user",
        "features_present",
        "cohorts_known",
        "days_complete",
    }
    assert check.ok


def test_a_log_without_exploration_or_with_an_action_never_served_is_not_fit(tmp_path, config, surface, rows_of):
    columns = rows_of(300)
    keep = np.flatnonzero(columns["action"] != 4)
    frame = pl.DataFrame(columns)[keep]
    write_day(tmp_path / "gap", 20_000, frame.to_dict())
    rule = result(check_log(tmp_path / "gap", config), "support")
    assert not rule.ok
    assert "action 4" in rule.seen
    write_day(tmp_path / "none", 20_000, frame.filter(pl.col("reason") == "STATIC").to_dict())
    assert not result(check_log(tmp_path / "none", config), "explored_rows").ok


@pytest.mark.parametrize("design", ["uniform", "logged"])
def test_a_skewed_true_propensity_is_found_in_twenty_of_twenty_seeds(config, surface, design):
    config = config.model_copy(update={"exploration": config.exploration.model_copy(update={"design": design})})
    skewed = np.array([1.5, *[1.0] * 8])
    for seed in range(20):
        tally = Tally.of(uniform_log(config, 5000, seed, skewed / skewed.sum()), len(surface))
        rules = {rule.name: rule for rule in whole_log_rules(tally, config, surface, has_candidates=False)}
        assert not rules["sample_ratio"].ok
        assert "action 1 " in rules["sample_ratio"].seen


@pytest.mark.parametrize("n", [100, 2000])
@pytest.mark.parametrize("design", ["uniform", "logged"])
def test_good_logs_raise_at_most_one_false_alarm_in_a_hundred(config, surface, design, n):
    config = config.model_copy(update={"exploration": config.exploration.model_copy(update={"design": design})})
    chances = None if design == "uniform" else np.arange(3, 12) / np.arange(3, 12).sum()
    alarms = 0
    for seed in range(300):
        tally = Tally.of(uniform_log(config, n, seed, chances, chances), len(surface))
        rules = whole_log_rules(tally, config, surface, has_candidates=False)
        alarms += any(not rule.ok and rule.severity == "error" and rule.name != "support" for rule in rules)
    assert alarms <= 6  # 1 % of 300 is 3; P(Poisson(3) > 6) = 0.03, and the seeds are fixed


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 199), st.integers(0, 99))
def test_any_split_of_a_log_adds_up_to_the_same_tally(config, cut, seed):
    log = uniform_log(config, 200, seed)
    log = Log.concat([log, log.take(slice(0, 50))])  # some users twice
    whole, parts = Tally.of(log, 10), Tally.of(log.take(slice(0, cut)), 10) + Tally.of(log.take(slice(cut, None)), 10)
    np.testing.assert_array_equal(whole.users, parts.users)
    np.testing.assert_array_equal(whole.user_rows, parts.user_rows)
    np.testing.assert_array_equal(whole.count, parts.count)
    np.testing.assert_allclose(mean_weights(whole), mean_weights(parts), rtol=1e-12)
    assert (whole.rows, whole.explored) == (parts.rows, parts.explored)


def test_the_quarantine_is_never_the_log_and_never_mixed_with_an_older_one(tmp_path, config, rows_of):
    write_day(tmp_path / "log", 20_000, rows_of(10))
    write_day(tmp_path / "old", 20_000, rows_of(10))
    with pytest.raises(ConfigError, match="is the log itself"):
        check_log(tmp_path / "log", config, quarantine=tmp_path / "log")
    with pytest.raises(ConfigError, match="already holds"):
        check_log(tmp_path / "log", config, quarantine=tmp_path / "old")
    write_day(tmp_path / "short", 20_000, {k: v for k, v in rows_of(10).items() if k != "saves"})
    with pytest.raises(LogError, match="no column 'saves'"):
        check_log(tmp_path / "short", config)
