"""Requests against sessions: the same family on two rewards, what is said of it, and the command on a small simulated log."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_evaluate import Knows, config_with, make_log

from paretune.cli import main
from paretune.frontier.anchor import fit_anchor
from paretune.frontier.evaluate import sweep_sums
from paretune.frontier.horizon import Horizon, compare_horizons, judged_by
from paretune.ope.sessions import Agreement, Wald
from paretune.report.session_figures import agreement_table, carry_over_table, horizon_figure, horizon_table

NONE = Wald("next save", 1000, 0.5, (2, 100), 0.6, 0.02)


def horizon_of(*agreement: Agreement) -> Horizon:
    numbers = np.linspace(0, 1, 3 * 2 * len(agreement)).reshape(3, 2, len(agreement))
    names = tuple(f"o{j}" for j in range(len(agreement)))
    return Horizon(("a", "b", "c"), names, numbers, numbers - 0.1, numbers + 0.1, agreement, 0.95)


ALIKE, UNLIKE, OPEN = (Agreement(tau, tau - half, tau + half, (0, 0), 0.9) for tau, half in ((0.9, 0.1), (-0.5, 0.2), (0.4, 0.5)))


@pytest.mark.parametrize(
    ("agreement", "judge"),
    [
        ((ALIKE, ALIKE), "by requests"),
        ((ALIKE, UNLIKE), "by sessions"),
        ((ALIKE, OPEN), "not enough data"),
        ((UNLIKE, OPEN), "by sessions"),
    ],
)
def test_the_sentence_follows_the_agreement(agreement: tuple[Agreement, ...], judge: str) -> None:
    said, sentence = judged_by(horizon_of(*agreement), (NONE,))
    assert said == judge
    assert "no carry-over" in sentence


def test_carry_over_is_told_with_its_size() -> None:
    _, sentence = judged_by(horizon_of(ALIKE), (NONE, Wald("another request", 1000, 9.0, (2, 100), 1e-5, 0.034)))
    assert "'another request' by up to 3.4 %" in sentence
    assert "next save" not in sentence


def test_a_reward_to_go_that_is_the_reward_ranks_alike_and_one_turned_round_does_not() -> None:
    config, log = config_with(), make_log(40_000, 1)
    anchor = fit_anchor(make_log(5_000, 0), config)
    plain = sweep_sums(Knows(), log, config, anchor=anchor)
    same = compare_horizons(plain, plain, config, rng=np.random.default_rng(0))
    np.testing.assert_allclose(same.estimate[:, 0], same.estimate[:, 1])
    assert [each.tau for each in same.agreement] == pytest.approx([1, 1])
    swapped = sweep_sums(Knows(), replace(log, rewards=log.rewards[:, ::-1]), config, anchor=replace(anchor, encoder=None))
    turned = compare_horizons(plain, swapped, config, rng=np.random.default_rng(0))
    assert all(each.high < 0 for each in turned.agreement)


def test_tables_and_picture_hold_every_policy() -> None:
    horizon = horizon_of(ALIKE, OPEN)
    assert len(horizon_table(horizon).rows) == 3
    assert len(agreement_table(horizon).rows) == 2
    assert carry_over_table((NONE,)).rows[0][0] == "next save"
    specification = horizon_figure(horizon, "Judge by requests: all is well.").to_dict()
    assert specification["title"]["text"] == "Judge by requests"
    assert sum(len(rows) for rows in specification["datasets"].values()) >= 6


@pytest.mark.e2e
def test_the_command_compares_requests_and_sessions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["simulate", "logs", "--days", "2", "--requests", "2500", "--explore", "0.5"]) == 0
    text = Path("paretune.toml").read_text(encoding="utf-8")
    text = text.replace("train_days = 14", "train_days = 1").replace("hold_out_days = 7", "hold_out_days = 1")
    Path("paretune.toml").write_text(text.replace("min_hits = 100", "min_hits = 5"), encoding="utf-8")
    capsys.readouterr()
    assert main(["sessions", "logs", "--model", "ridge", "--json"]) == 4  # 1,000 exploration rows cannot tell
    said = capsys.readouterr()
    told = json.loads(said.out)
    assert told["judge"] == "not enough data"
    assert "Not enough data" in said.err
    assert 1.3 < told["requests_per_session"] < 2.5
    assert [test["outcome"] for test in told["carry_over"]] == ["another request", "next save", "next p2p"]
    assert main(["sessions", "logs", "--model", "ridge", "--discount", "0"]) == 0
    assert "Judge by requests" in capsys.readouterr().out.splitlines()[-1]
