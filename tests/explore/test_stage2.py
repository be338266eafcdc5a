"""Stage 2 judged on a log: factors against the definition, costs from rewards, and what the page says."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paretune.errors import DataError
from paretune.explore.design import mixture
from paretune.explore.stage2 import Stage2, choosing_policies, judge_stage2
from paretune.frontier.front import Front, Lifts, Pick, Policy
from paretune.frontier.sweep import choose
from paretune.records import Categorical, Floats, Log, State
from paretune.report.stage2 import publish_stage2, stage2_figure, stage2_sentences, stage2_summary, stage2_tables
from paretune.surface.heads import Head, Surface

SURFACE = Surface((Head("save", 10.0, (5.0, 20.0)), Head("p2p", 10.0, (5.0, 20.0))), k=3)
FAMILY = np.array([[0.0, 1.0], [0.5, 0.5], [1.0, 0.0]])


class Leans:
    """A model in which the feature says which action is good for which objective."""

    name = "leans"
    objectives = ("save", "p2p")

    def values(self, state: State, actions: Floats) -> Floats:
        x = state.numeric["x"][:, None]
        place = np.arange(len(actions))
        return np.stack([np.exp(-((place - 1 - x) ** 2)), np.exp(-((place - 2 - x) ** 2))], axis=2).astype(np.float32)

    def save(self, folder: Path) -> None:
        raise OSError(folder)


def make_front() -> Front:
    policies = (
        Policy("production", "static", weights=SURFACE.static),
        *(Policy(f"alpha {row[0]:g}", "alpha", alpha=float(row[0]), scalarisation=tuple(row.tolist())) for row in FAMILY),
    )
    none = np.zeros((4, 2))
    lifts = Lifts(
        tuple(p.name for p in policies), ("save", "p2p"), none, none, none, none, none, none, np.zeros((2, 4, 2)),
        np.array([0.3, 0.3]), np.zeros(4, int), "made up", 0.95, 10, 5,
    )  # fmt: skip
    return Front(policies, lifts, np.zeros(4, bool), (Pick("knee", 2, 0.1),), np.zeros((4, 2)), np.zeros((4, 5)))


def make_log(n: int, seed: int = 0, *, explored: float = 0.6) -> Log:
    rng = np.random.default_rng(seed)
    is_explored = rng.random(n) < explored
    action = np.where(is_explored, rng.integers(1, 5, n), 0).astype(np.int32)
    user, ids, zero = rng.integers(0, n // 3, n).astype(np.uint64), np.arange(n, dtype=np.uint64), np.zeros(n, np.int32)
    rewards = (rng.random((n, 2)) < np.array([0.4, 0.4, 0.3, 0.2, 0.1])[action][:, None]).astype(np.float32)
    state = State({"x": rng.uniform(0, 2, n).astype(np.float32)}, {}, {}, {})
    return Log(ids, user, ids, zero, Categorical(zero, ("ALL",)), action, np.where(is_explored, 0.25, 1.0), is_explored, rewards, state)


def judged(log: Log | list[Log], **changes: Any) -> Stage2:
    logs = log if isinstance(log, list) else [log]
    arguments: dict[str, Any] = {"front": make_front(), "scale": np.array([1.0, 1.0]), "floor": 0.2} | changes
    return judge_stage2(Leans(), logs, SURFACE, **arguments)


def test_factors_and_costs_are_those_of_the_definition_over_the_exploration_rows() -> None:
    log = make_log(4000)
    found = judged(log)
    explored = log.exploration()
    choices = choose(Leans().values(explored.state, SURFACE.actions), FAMILY)
    mu = mixture(choices, actions=4)
    for p in range(3):
        assert found.factors[p] == pytest.approx(np.mean([1 / mu[i, choices[i, p]] for i in range(len(explored))]))
    weight = mu[np.arange(len(explored)), explored.action] / 0.25
    assert found.cost is not None
    expected = (weight[:, None] * explored.rewards).sum(axis=0) / weight.sum() / log.production().rewards.mean(axis=0) - 1
    np.testing.assert_allclose(found.cost.relative[1], expected, rtol=1e-6)
    np.testing.assert_allclose(found.cost.relative[0], explored.rewards.mean(axis=0) / log.production().rewards.mean(axis=0) - 1, rtol=1e-6)
    assert (found.rows, found.labels) == (len(explored), ("", "knee", ""))
    assert found.worth > 1


def test_batches_give_what_the_whole_log_gives() -> None:
    log = make_log(2000)
    whole, parts = judged(log), judged([log.take(slice(0, 3)), log.take(slice(3, 1200)), log.take(slice(1200, None))])
    np.testing.assert_allclose(parts.factors, whole.factors)
    assert parts.cost is not None
    assert whole.cost is not None
    np.testing.assert_allclose(parts.cost.relative, whole.cost.relative)
    np.testing.assert_allclose(parts.cost.std_error, whole.cost.std_error)


def test_without_exploration_rows_or_a_family_there_is_nothing_to_judge() -> None:
    with pytest.raises(DataError, match="no exploration rows"):
        judged(make_log(300, explored=0.0))
    with pytest.raises(DataError, match="no exploration rows"):
        judged([])
    front = make_front()
    with pytest.raises(DataError, match="per request"):
        choosing_policies(replace(front, policies=front.policies[:1]))


def test_the_words_say_gain_cost_and_who_does_not_profit() -> None:
    found = judged(make_log(3000))
    said = " ".join(stage2_sentences(found))
    assert f"stands for {found.worth:.1f} uniform ones" in said
    assert "up to 20" in said  # 4 actions / 20 %
    assert 'exploration.design = "logged"' in said
    unknown = judged(make_log(3000, explored=1.0))
    assert unknown.cost is None
    assert "cost" in " ".join(stage2_sentences(unknown))
    assert len(stage2_tables(unknown, 0.01)) == 1
    assert stage2_summary(unknown)["cost"] is None
    assert stage2_summary(found)["cost"]["stage 2"]["save"]["std_error"] > 0
    assert [len(table.rows) for table in stage2_tables(found, 0.01)] == [3, 4]


@pytest.mark.parametrize("explored", [0.6, 1.0])
def test_the_picture_shows_both_designs(explored: float) -> None:
    chart = stage2_figure(judged(make_log(2000, explored=explored))).to_dict()
    rows = [row for values in chart["datasets"].values() for row in values]
    assert {row["design"] for row in rows if "factor" in row and "design" in row} == {"uniform", "stage 2"}
    assert any("low" in row for row in rows) == (explored < 1)
    assert "stands for" in chart["title"]["text"]


def test_the_page_is_written_with_its_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[tuple[str, Path]] = []  # starting the drawing library takes seconds, and other tests do it
    monkeypatch.setattr("paretune.report.stage2.save_figures", lambda charts, folder: drawn.extend((name, folder) for name, _ in charts))
    page = publish_stage2(judged(make_log(1000)), tmp_path, share=0.0125)
    assert "stage 2" in page.read_text(encoding="utf-8")
    assert drawn == [("stage2", tmp_path / "figures")]
