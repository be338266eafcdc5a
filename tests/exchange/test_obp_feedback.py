"""Open Bandit Pipeline's feedback, in and out: nothing is changed on the way, and OBP's estimators agree with ours on it."""

from __future__ import annotations

import json
import warnings
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from foreign import ACTIONS, CONFIG, RAW, configured, decisions, feedback
from hypothesis import given, settings
from hypothesis import strategies as st

import paretune as pt
from paretune.cli import main
from paretune.config import Config, parse_config
from paretune.errors import ConfigError, DataError
from paretune.exchange.drawn import numbering
from paretune.ope.clusters import user_buckets
from paretune.ope.estimators import ips, policy_sums, snips
from paretune.records import Candidates, Categorical, Log, State

AGE_ONLY = parse_config(RAW | {"features": {"numeric": ["age"]}})
RICH = parse_config(
    RAW
    | {
        "objectives": [
            {"name": "save", "column": "saves", "head": "save", "transform": "two-level"},
            {"name": "hide", "column": "hides", "transform": "log1p"},
        ],
        "features": {
            "numeric": ["age"],
            "categorical": ["device", "position"],
            "embeddings": [{"name": "taste", "size": 3}],
            "sequences": [{"name": "last", "length": 4, "vocabulary": 20}],
        },
    }
)


def rich_log(n: int, seed: int) -> Log:
    """Return a log of every kind of feature, with missing ones, two objectives and candidates."""
    rng, surface = np.random.default_rng(seed), RICH.surface.build()
    device = Categorical(rng.integers(-1, 3, n).astype(np.int32), ("phone", "tablet", "web"))
    position = Categorical(rng.integers(0, 3, n).astype(np.int32), ("0", "1", "2"))
    taste, age = rng.normal(size=(n, 3)).astype(np.float32), rng.normal(size=n).astype(np.float32)
    age[rng.random(n) < 0.2] = np.nan
    counts = rng.poisson(0.7, n)
    return Log(
        request=rng.integers(0, 2**64, n, dtype=np.uint64),
        user=rng.integers(0, 2**64, n, dtype=np.uint64),
        session=rng.integers(0, 2**64, n, dtype=np.uint64),
        day=rng.integers(20_000, 20_005, n).astype(np.int32),
        cohort=Categorical(rng.integers(-1, 2, n).astype(np.int32), ("CASUAL", "CORE")),
        action=rng.integers(1, len(surface), n).astype(np.int32),
        propensity=rng.uniform(0.01, 0.9, n),
        explored=np.ones(n, dtype=bool),
        rewards=np.stack([(np.minimum(counts, 1) + np.minimum(counts, 2)) / 2, np.log1p(rng.poisson(2, n))], axis=1).astype(np.float32),
        state=State({"age": age}, {"device": device, "position": position}, {"taste": taste}, {"last": rng.integers(-1, 20, (n, 4))}),
    )


def words(column: Categorical) -> list[str | None]:
    return [None if code < 0 else column.vocabulary[code] for code in column.codes]


def assert_same(left: Any, right: Any, path: str = "") -> None:
    """Two logs hold the same; what OBP has no place for and we do not carry (times, candidates, arms) aside."""
    for field in fields(left):
        a, b = getattr(left, field.name), getattr(right, field.name)
        for key, one, two in [(k, a[k], b[k]) for k in a] if isinstance(a, dict) else [("", a, b)]:
            if isinstance(one, Categorical):
                assert words(one) == words(two), path + field.name + key
            elif isinstance(one, State):
                assert_same(one, two, "state.")
            elif one is not None and not isinstance(one, Candidates):
                np.testing.assert_array_equal(one, two, err_msg=path + field.name + key)


@given(n=st.integers(1, 40), seed=st.integers(0, 9999))
@settings(max_examples=20, deadline=None)
def test_a_log_goes_out_and_comes_back_as_it_was(n: int, seed: int) -> None:
    log = rich_log(n, seed)
    assert_same(log, pt.from_obp(pt.to_obp(log, RICH), RICH))


@given(n=st.integers(1, 40), seed=st.integers(0, 9999))
@settings(max_examples=20, deadline=None)
def test_feedback_comes_in_and_goes_out_as_it_was(n: int, seed: int) -> None:
    given_, again = (found := feedback(decisions(n, seed))), pt.to_obp(pt.from_obp(found, AGE_ONLY), AGE_ONLY)
    for key in ("n_rounds", "n_actions", "position"):
        assert again[key] == given_[key]
    for key in ("context", "action", "reward", "pscore"):
        np.testing.assert_array_equal(again[key], given_[key], err_msg=key)
    np.testing.assert_array_equal(again["action_context"], AGE_ONLY.surface.build().actions[1:])


def test_positions_are_a_feature_or_refused() -> None:
    found = feedback(decisions(6)) | {"position": np.array([0, 1, 2, 0, 1, 2])}
    with pytest.raises(DataError, match="positions differ"):
        pt.from_obp(found, AGE_ONLY)
    for kind in ("numeric", "categorical"):
        names = {"numeric": ["age"]} | ({"numeric": ["age", "position"]} if kind == "numeric" else {"categorical": ["position"]})
        config = parse_config(RAW | {"features": names})
        np.testing.assert_array_equal(pt.to_obp(pt.from_obp(found, config), config)["position"], found["position"])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"pscore": None}, "pscore missing"),
        ({"pscore": np.full(5, 0.5)}, r"pscore of shape \(5,\)"),
        ({"pscore": np.full(6, 1.5)}, r"6 of 6 rounds cannot be used: propensity is not a number in \(0, 1\]"),
        ({"reward": np.full(6, -1.0)}, "saves is not a finite number >= 0"),
        ({"context": np.zeros((6, 2))}, "the context has 2 columns, the configuration 1 numbers"),
        ({"context": np.full((6, 1), np.inf)}, "age is not finite or missing"),
        ({"n_actions": 4}, "the grid has 9"),
        ({"action": np.full(6, 9)}, "actions from 9 to 9, the grid has 9"),
        ({"context_names": ["height"]}, "no column 'age'"),
        ({"n_rounds": 0}, "no rounds"),
    ],
)
def test_feedback_that_does_not_fit_is_refused(change: dict[str, Any], said: str) -> None:
    found = {key: value for key, value in (feedback(decisions(6)) | change).items() if value is not None or key == "position"}
    with pytest.raises(DataError, match=said):
        pt.from_obp(found, AGE_ONLY)


def test_a_configuration_of_other_features_or_objectives_is_refused() -> None:
    with pytest.raises(DataError, match="device, which are none"):
        pt.from_obp(feedback(decisions(6)), CONFIG)
    with pytest.raises(DataError, match="OBP has one reward"):
        pt.from_obp(feedback(decisions(6)), RICH)
    with pytest.raises(DataError, match="no objective 'clicks'"):
        pt.to_obp(rich_log(5, 0), RICH, objective="clicks")
    with pytest.raises(DataError, match="no exploration rows"):
        pt.to_obp(rich_log(5, 0).take(slice(0, 0)), RICH)


def test_actions_are_numbered_and_a_wrong_numbering_is_refused() -> None:
    found = feedback(decisions(20))
    backwards = list(range(ACTIONS, 0, -1))
    log = pt.from_obp(found, AGE_ONLY, actions=backwards)
    np.testing.assert_array_equal(log.action, ACTIONS - found["action"])
    np.testing.assert_array_equal(pt.to_obp(log, AGE_ONLY, actions=backwards)["action"], found["action"])
    for wrong in ([1, 1], [99], []):
        with pytest.raises(ConfigError, match="no numbering"):
            numbering(AGE_ONLY.surface.build(), wrong)


@pytest.mark.parametrize("suffix", ["npz", "json"])
def test_feedback_from_a_file_is_the_log_that_it_is_in_memory(tmp_path: Path, suffix: str, capsys: pytest.CaptureFixture[str]) -> None:
    configured(tmp_path, {"features": {"numeric": ["age"]}})
    found, path = feedback(decisions(30)), tmp_path / f"f.{suffix}"
    if suffix == "npz":
        np.savez(path, **{key: value for key, value in found.items() if value is not None})
    else:
        path.write_text(json.dumps({k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in found.items()}), encoding="utf-8")
    words = ["import", "obp", str(path), "-o", str(tmp_path / "logs"), "-c", str(tmp_path / "paretune.toml")]
    assert main(words) == 3
    assert "--day" in capsys.readouterr().err
    assert main([*words, "--day", "2026-03-01", "--per-day", "10"]) == 0
    log, memory = pt.read_log(tmp_path / "logs", AGE_ONLY), pt.from_obp(found, AGE_ONLY)
    assert len(pt.log_days(tmp_path / "logs", AGE_ONLY)) == 3
    for name in ("action", "propensity", "rewards", "explored"):
        np.testing.assert_array_equal(getattr(log, name), getattr(memory, name), err_msg=name)
    np.testing.assert_array_equal(log.state.numeric["age"], memory.state.numeric["age"])


def test_an_exploration_log_goes_to_a_file_and_comes_back_with_its_users(tmp_path: Path) -> None:
    configured(tmp_path, RICH.model_dump(mode="json"))
    out = pt.to_obp(rich_log(50, 1), RICH)
    plain = {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in out.items()}
    plain["counts"] = {name: count.tolist() for name, count in out["counts"].items()}
    (tmp_path / "f.json").write_text(json.dumps(plain), encoding="utf-8")
    assert main(["import", "obp", str(tmp_path / "f.json"), "-o", str(tmp_path / "logs"), "-c", str(tmp_path / "paretune.toml")]) == 0
    log = pt.read_log(tmp_path / "logs", RICH)
    assert len(np.unique(log.user)) == len(np.unique(out["user"]))
    assert sorted(log.day.tolist()) == sorted(out["day"].tolist())
    np.testing.assert_allclose(sorted(log.rewards.sum(axis=1)), sorted(rich_log(50, 1).rewards.sum(axis=1)), rtol=1e-6)


def test_a_file_of_python_objects_is_not_unpickled(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    configured(tmp_path)
    np.savez(tmp_path / "f.npz", position=np.array([None]))
    assert main(["import", "obp", str(tmp_path / "f.npz"), "-c", str(tmp_path / "paretune.toml"), "-o", str(tmp_path / "logs")]) == 3
    assert "cannot be read as bandit feedback" in capsys.readouterr().err


def obp_package() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # obp 0.4.1 is from 2021, and so is its use of numpy and pandas
        pytest.importorskip("obp", reason="obp is not installed; the documented dict is tested above")
        import obp.dataset
        import obp.ope

    return obp


def agrees(obp: Any, found: dict[str, Any], log: Log, target: np.ndarray) -> None:
    """OBP's IPS and SNIPS of a deterministic policy (n,) on its feedback are ours on the imported log."""
    distribution = np.zeros((found["n_rounds"], found["n_actions"], 1 if found["position"] is None else int(found["position"].max()) + 1))
    distribution[np.arange(len(target)), target] = 1
    told = {"reward": found["reward"], "action": found["action"], "pscore": found["pscore"], "action_dist": distribution}
    told["position"] = np.zeros(len(target), dtype=int) if found["position"] is None else found["position"]
    hits = (log.action == target + 1)[:, None]
    sums = policy_sums(log.rewards, log.propensity, hits, user_buckets(log.user))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert hits.sum() > 5
        theirs = obp.ope.InverseProbabilityWeighting().estimate_policy_value(**told)
        assert ips(sums).value[0, 0] == pytest.approx(theirs, rel=1e-9)
        theirs = obp.ope.SelfNormalizedInverseProbabilityWeighting().estimate_policy_value(**told)
        assert snips(sums).value[0, 0] == pytest.approx(theirs, rel=1e-9)


def grid_of(actions: int, features: dict[str, Any]) -> Config:
    head = {"name": "click", "weight": 5.0, "tune": {"low": 1.0, "high": 10.0, "levels": actions}}
    return parse_config({"surface": {"k": 3, "heads": [head]}, "objectives": [{"name": "click", "column": "clicks"}], "features": features})


def test_obps_synthetic_data_goes_through_and_its_estimators_agree() -> None:
    obp = obp_package()
    data = obp.dataset.SyntheticBanditDataset(
        n_actions=6,
        dim_context=3,
        reward_function=obp.dataset.logistic_reward_function,
        behavior_policy_function=obp.dataset.linear_behavior_policy,
        random_state=1,
    )
    found, config = data.obtain_batch_bandit_feedback(n_rounds=400), grid_of(6, {"numeric": ["x0", "x1", "x2"]})
    log = pt.from_obp(found, config)
    out = pt.to_obp(log, config)
    for key in ("action", "reward", "pscore"):
        np.testing.assert_array_equal(out[key], found[key])
    np.testing.assert_array_equal(out["context"], found["context"].astype(np.float32))  # logs hold float32
    target = (found["context"][:, 0] > 0).astype(int)
    agrees(obp, found, log, target)
    agrees(obp, out, log, target)
    obp.utils.check_bandit_feedback_inputs(**{k: out[k] for k in ("context", "action", "reward", "position", "pscore", "action_context")})


def test_the_open_bandit_dataset_goes_through_and_its_estimators_agree() -> None:
    obp = obp_package()

    class Dataset(obp.dataset.OpenBanditDataset):
        def pre_process(self) -> None:
            """Make the context as OBP does, without the categories of items, which its old pandas call cannot read."""
            import pandas as pd

            self.context = pd.get_dummies(self.data.filter(like="user_feature"), drop_first=True).to_numpy(dtype=float)
            self.action_context = self.item_context[["item_feature_0"]].to_numpy()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = Dataset(behavior_policy="random", campaign="men").obtain_batch_bandit_feedback()
    d = found["context"].shape[1]
    config = grid_of(found["n_actions"], {"categorical": ["position"], "embeddings": [{"name": "user_features", "size": d}]})
    log = pt.from_obp(found, config)
    assert len(log) == found["n_rounds"] == 10_000
    assert log.explored.all()
    out = pt.to_obp(log, config)
    for key in ("context", "action", "reward", "pscore", "position"):
        np.testing.assert_array_equal(out[key], found[key], err_msg=key)
    agrees(obp, found, log, np.full(len(log), 3))
