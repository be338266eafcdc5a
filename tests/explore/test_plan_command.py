"""`paretune plan-exploration`: from a command line, a configuration and a log to tables, sentences, JSON and a page."""

import json
import math
import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import tomlkit

from paretune.cli import main
from paretune.commands.plan_exploration import _swept_with, parse_grid, parse_rates, parse_traffic
from paretune.config import load_config, parse_config
from paretune.errors import ConfigError
from paretune.explore.planner import ESTIMATORS, Aim, Grid, Plan, usual_grids
from paretune.explore.rates import Rate
from paretune.logs.parquet import write_day
from paretune.report.plan import plan_sentences
from paretune.report.planner_figures import count_words, plan_figure, short_percent, time_words
from paretune.run import sweep_logs

ASKED = ["--lift", "1", "--traffic", "10e6/day", "--share", "1.25", "--rates", "save=0.18,p2p=0.35", "--grid", "7x7", "--power", "80"]
SETTINGS = {
    "surface": {
        "heads": [{"name": name, "weight": 10.0, "tune": {"low": 5.0, "high": 20.0, "levels": 2}} for name in ("save", "p2p")],
    },
    "objectives": [{"name": name, "column": f"{name}s"} for name in ("save", "p2p")],
    "features": {"numeric": ["x"]},
    "exploration": {"share": 0.02},
    "evaluation": {"train_days": 1, "hold_out_days": 1, "alphas": 5, "replicates": 100},
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def logged(here: Path) -> Path:
    """Two days of 1000 and 3000 requests, half of them explored, and the configuration that reads them."""
    (here / "paretune.toml").write_text(tomlkit.dumps(SETTINGS), encoding="utf-8")
    rng = np.random.default_rng(0)
    for day, n in ((20_500, 1000), (20_501, 3000)):
        explored = rng.random(n) < 0.5
        action = np.where(explored, rng.integers(1, 5, n), 0).astype(np.int32)
        columns = {
            "request_id": day * 10_000 + np.arange(n),
            "user": rng.integers(0, 500, n),
            "ts": np.full(n, day * 86_400_000_000, np.int64),
            "action": action,
            "propensity": np.where(explored, 0.25, 1.0),
            "reason": pl.Series(np.where(explored, "EXPLORE", "STATIC")),
            "saves": (rng.random(n) < np.where(explored, 0.15, 0.2)).astype(np.int32),
            "p2ps": (rng.random(n) < 0.4).astype(np.int32),
            "x": rng.normal(size=n).astype(np.float32),
        }
        write_day(here / "logs", day, columns)
    return here / "logs"


def test_the_plan_of_the_help_text_needs_no_configuration(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan-exploration", *ASKED, "--output", "plan"]) == 0
    printed = capsys.readouterr().out
    assert "With 7×7 and 1.25 % explored you can resolve 1 % of save in 57 days (7.01 million held-out exploration rows)" in printed
    assert "What exploring costs is unknown" in printed
    assert (
        "These rows are held out to judge one policy, named beforehand, against production (80 % power); rows that train come on top."
        in printed
    )
    assert "`paretune sweep` and `paretune worth` answer other questions" in printed
    page = (here / "plan" / "plan.html").read_text(encoding="utf-8")
    assert "57 days" in page
    assert not re.search(r"<(?:script|link|img)[^>]+(?:src|href)=[\"']https?:", page)
    assert {path.name for path in (here / "plan" / "figures").iterdir()} == {"plan.png", "plan.svg"}


@pytest.mark.usefixtures("here")
def test_json_holds_every_option_and_the_papers_69_million(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan-exploration", "--rates", "save=0.1", "--grid", "7x7", "--estimator", "paper", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["asked"]["rows"]["save"] == pytest.approx(69e6, rel=0.01)
    assert found["asked"]["days"] is None
    assert found["cost"] is None
    assert len(found["options"]) == 4 * 3
    assert found["estimators"]["replay"]["gain"] == 15
    assert any("traffic is not known" in sentence for sentence in found["sentences"])


def test_a_log_gives_rates_traffic_and_cost_and_the_configuration_the_rest(logged: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan-exploration", str(logged), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["requests_per_day"] == 2000
    assert found["rates"]["save"] == pytest.approx(0.2, abs=0.03)
    assert (found["asked"]["grid"], found["asked"]["share"], found["days"]) == ("2×2", 0.02, 1)
    assert found["estimator"] == "kernel"
    cost = found["cost"]["save"]
    assert abs(cost["per_explored_request"] + 0.25) < 4 * cost["std_error"]
    assert cost["of_all_traffic"] == pytest.approx(0.02 * cost["per_explored_request"])

    assert main(["plan-exploration", str(logged), "--rates", "save=0.5", "--traffic", "1e6/hour", "--gain", "8", "--days", "3"]) == 0
    printed = capsys.readouterr().out
    assert "Cost of exploring" in printed
    assert "resolved in 3 days" in printed
    assert "p2p in" in printed  # the rate that was given makes save the easier one
    assert "gain 8" in printed


def test_a_log_that_explores_far_more_or_less_than_planned_is_told_in_one_line(logged: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan-exploration", str(logged)]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("The log explores")]
    assert len(lines) == 1
    assert re.match(r"The log explores [45]\d(\.\d)? % of its rows, far more than the 2 % planned with", lines[0])
    assert main(["plan-exploration", str(logged), "--share", "99.9"]) == 0
    assert "far less than the 99.9 % planned with" in capsys.readouterr().out
    assert main(["plan-exploration", str(logged), "--share", "40", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["logged_share"] == pytest.approx(0.5, abs=0.05)
    assert not any("The log explores" in sentence for sentence in found["sentences"])


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--rates", "save=0.1"], "no configuration"),
        (["--rates", "save", "--grid", "7x7"], "cannot be read at 'save'"),
        (["--rates", "=0.1", "--grid", "7x7"], "cannot be read"),
        (["--rates", "save=2", "--grid", "7x7"], "a rate of 2"),
        ([*ASKED, "--traffic", "10/week"], "10/week"),
        ([*ASKED, "--traffic", "-3"], "-3"),
        ([*ASKED, "--grid", "7y7"], "7y7"),
        ([*ASKED, "--grid", "1x7"], "grid of 1×7"),
        ([*ASKED, "--share", "125"], "1.25"),
        ([*ASKED, "--lift", "0"], "lift 0"),
        ([*ASKED, "--days", "0"], "--days 0"),
        ([*ASKED, "--gain", "-1"], "--gain -1"),
        ([*ASKED, "--estimator", "magic"], "magic"),
    ],
)
def test_what_cannot_be_planned_exits_2_and_says_why(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan-exploration", *words]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.usefixtures("logged")
def test_unknown_and_missing_rates_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan-exploration", "--rates", "saves=0.1,p2p=0.2"]) == 2
    assert "objectives are save, p2p" in capsys.readouterr().err
    assert main(["plan-exploration", "--rates", "save=0.1"]) == 2
    assert "['p2p']" in capsys.readouterr().err
    assert main(["plan-exploration", "nowhere"]) == 3


def test_stage_2_is_judged_by_a_runs_model_on_the_days_it_has_not_seen(logged: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep_logs(logged, load_config("paretune.toml"), Path("run"), model="ridge", draw=False)
    assert main(["plan-exploration", str(logged), "--stage2", "run", "--floor", "40", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert 1000 < found["rows"] < 2000  # those of the second day
    assert found["uniform_variance_factor"] == 4
    assert len(found["policies"]) == 5
    assert all(1 < policy["variance_factor"] < 4 for policy in found["policies"])
    assert any("knee" in policy["pick"] for policy in found["policies"])
    assert set(found["cost"]) == {"uniform", "stage 2"}
    assert abs(found["cost"]["uniform"]["save"]["per_explored_request"] + 0.25) < 4 * found["cost"]["uniform"]["save"]["std_error"]

    assert main(["plan-exploration", str(logged), "--stage2", "run", "--share", "5"]) == 0
    printed = capsys.readouterr().out
    assert "all traffic at 5 %" in printed
    assert "uniform ones" in printed
    assert main(["plan-exploration", "--stage2", "run"]) == 2
    assert main(["plan-exploration", str(logged), "--stage2", "run", "--floor", "150"]) == 2
    assert main(["plan-exploration", str(logged), "--stage2", "nowhere"]) == 3


@pytest.mark.usefixtures("here")
def test_options_without_a_use_beside_stage_2_are_refused_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan-exploration", "logs", "--stage2", "run", "--lift", "1", "--days", "3"]) == 2
    said = capsys.readouterr().err
    assert "--stage2 compares two designs by the run in run, at any lift; --lift, --days would not be used" in said
    assert "leave --lift and --days out" in said
    assert main(["plan-exploration", "logs", "--stage2", "run", "-c", "other.toml"]) == 2
    assert "--config would not be used" in capsys.readouterr().err
    assert main(["plan-exploration", *ASKED, "--floor", "20"]) == 2
    assert "add --stage2 RUN" in capsys.readouterr().err


def test_words_of_the_command_line_are_read() -> None:
    assert parse_traffic("10e6/day") == 10e6
    assert parse_traffic("1,000/hour") == 24_000
    assert parse_traffic("500") == 500
    assert math.isnan(parse_traffic(""))
    assert parse_rates(" save = 0.1, a=b=0.2,") == {"save": 0.1, "a=b": 0.2}
    assert parse_grid("9") == Grid((9,))
    assert parse_grid("7×5x3") == Grid((7, 5, 3))
    with pytest.raises(ConfigError):
        parse_grid("7x")


def test_numbers_are_said_in_words() -> None:
    assert [time_words(days) for days in (0.01, 0.5, 1, 1.2, 1000, math.nan)] == [
        "1 hour",
        "12 hours",
        "1 day",
        "2 days",
        "2.7 years",
        "an unknown time",
    ]
    assert [count_words(rows) for rows in (12.3, 123_456, 69_227_119, 3e9)] == ["12", "123,000", "69.2 million", "3 billion"]
    assert [short_percent(share) for share in (0.0125, 0.01, math.nan)] == ["1.25 %", "1 %", "–"]


def made_plan(*, requests_per_day: float = 10e6, lift: float = 0.01) -> Plan:
    grid = Grid((7, 7))
    rates = (Rate.clipped("save", 0.18),)
    return Plan(Aim(lift), rates, grid, usual_grids(grid), 0.0125, (0.0125, 0.025), ESTIMATORS["replay"], requests_per_day, 7.0)


def test_the_sentences_say_what_would_be_enough() -> None:
    assert "Enough" not in " ".join(plan_sentences(made_plan(lift=0.05)))
    assert "takes 7×7 and" in " ".join(plan_sentences(made_plan()))
    assert "more than all traffic" in " ".join(plan_sentences(made_plan(requests_per_day=1e4)))
    assert "Enough within 7 days: 7×7 and 2.5 %" in " ".join(plan_sentences(made_plan(lift=0.0125)))


@pytest.mark.parametrize("requests_per_day", [10e6, math.nan])
def test_the_picture_has_a_line_per_grid_and_style_per_estimator_and_marks_the_plan(requests_per_day: float) -> None:
    plan = made_plan(requests_per_day=requests_per_day)
    chart = plan_figure(
        plan.aim,
        plan.rates,
        grids=plan.grids,
        asked=plan.grid,
        share=plan.share,
        estimators=[ESTIMATORS["replay"], ESTIMATORS["paper"]],
        requests_per_day=requests_per_day,
        days=7,
    ).to_dict()
    rows = [row for values in chart["datasets"].values() for row in values]
    lines = {(row["grid"], row["estimator"]) for row in rows if "grid" in row}
    assert {grid for grid, estimator in lines if estimator == ESTIMATORS["paper"].title} == {"3×3", "4×4", "5×5", "7×7"}
    assert {grid for grid, estimator in lines if estimator == ESTIMATORS["replay"].title} == {"every grid"}
    option = plan.asked()
    wanted = option.needed if math.isnan(requests_per_day) else option.days
    assert any(row.get("needed") == pytest.approx(wanted) and "grid" not in row for row in rows)
    assert ("days" if math.isfinite(requests_per_day) else "rows") in chart["title"]["text"]


@pytest.mark.parametrize(("estimator", "heads", "said"), [("hit", True, "hits"), ("auto", True, "replay"), ("auto", False, "kernel")])
def test_the_plan_supposes_the_estimator_that_a_sweep_would_use(
    estimator: str, heads: bool, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("paretune.logs.parts.has_candidates", lambda *_: True)
    named = [{"name": n, "column": f"{n}s"} | ({"head": n} if heads else {}) for n in ("save", "p2p")]
    raw = SETTINGS | {"objectives": named, "evaluation": SETTINGS["evaluation"] | {"estimator": estimator}}
    assert _swept_with(tmp_path, parse_config(raw)) == said
