"""`paretune plan`: versions only go up, a policy is ramped where it stands, and whatever is wrong is said before anything is written."""

import json
from pathlib import Path

import pytest
from fake_scorer import HEADS, LEVELS, STATIC, write_fake_bundle
from hypothesis import given
from hypothesis import strategies as st
from registries import document

from paretune.cli import main
from paretune.errors import ConfigError
from paretune.policy.draft import CONTROL, Operating, as_next, with_control, with_exploration, with_policy
from paretune.policy.plan import Plan
from paretune.serving.sources import read_plan


def operating(name: str = "knee", **changes: object) -> Operating:
    known = {"heads": HEADS, "static": STATIC, "fingerprint": "a" * 64, "levels": LEVELS, "scalarisation": (1.0, 0.5)}
    return Operating(name, **known | changes)  # type: ignore[arg-type]


def exported(folder: Path, name: str = "knee", **changes: object) -> Path:
    """Write what `paretune export` leaves beside a bundle."""
    trade_off = {"scalarisation": [1.0, 0.5], "cohorts": {"new": [0.0, 1.0]}}
    told = {"kind": "alpha", "objectives": ["save", "p2p"], "scale": [1.0, 1.0], **trade_off}
    surface = {"heads": list(HEADS), "static": list(STATIC)}
    written = {"policy": name, "bundle": write_fake_bundle(folder, name), **surface, **told} | changes
    (folder / "operating.json").write_bytes(document(None, **written))
    (folder / "serving.json").write_text(json.dumps({"actions": LEVELS}), encoding="utf-8")
    return folder


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@given(first=st.floats(0.01, 0.4), second=st.floats(0.01, 0.4), control=st.floats(0.01, 0.2))
def test_ramping_an_arm_leaves_the_others_and_their_order_alone(first: float, second: float, control: float) -> None:
    plan = with_control(with_policy(None, operating(), share=first), share=control)
    plan = with_policy(plan, operating("other"), share=0.1)
    ramped = as_next(with_policy(plan, operating(), share=second), plan)
    assert [arm.name for arm in ramped.arms] == ["knee", CONTROL, "other"]
    assert [arm.share for arm in ramped.arms] == [second, control, 0.1]
    assert [arm.name for arm in with_policy(ramped, operating(), share=0.0).arms] == [CONTROL, "other"]


def test_shares_over_the_whole_and_policies_of_other_surfaces_are_refused() -> None:
    plan = with_policy(None, operating(), share=0.9)
    with pytest.raises(ConfigError, match="not parts of one whole"):
        as_next(with_control(plan, share=0.2))
    for change in ({"heads": ("save", "click", "share")}, {"static": (1.0, 1.0, 1.0)}):
        with pytest.raises(ConfigError, match="the policy is for"):
            with_policy(plan, operating(**change), share=0.1)
    with pytest.raises(ConfigError, match="exploration needs `levels`"):
        as_next(with_exploration(Plan(1, HEADS, STATIC), share=0.1, design="uniform"))


def test_a_plan_is_begun_ramped_killed_revived_and_rolled_back_each_as_a_later_version(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    exported(here / "knee")
    begin = ["plan", "--bundle", "knee", "--share", "5", "--static-arm", "5", "--explore-share", "1.25", "--design", "blocked"]
    assert main(begin) == 0
    assert "explored: 1.25 % of requests, blocked, 9 actions" in capsys.readouterr().out
    first = read_plan(Path("plan.json"))
    assert [(arm.name, arm.share) for arm in first.arms] == [("knee", 0.05), (CONTROL, 0.05)]
    assert (first.version, first.exploration.share, first.exploration.levels) == (1, 0.0125, LEVELS)
    assert first.arms[0].cohorts == {"new": (0.0, 1.0)}
    Path("old.json").write_bytes(Path("plan.json").read_bytes())
    assert main(["plan", "--bundle", "knee", "--share", "25", "--note", "looks good"]) == 0
    second = read_plan(Path("plan.json"))
    assert (second.version, second.arms[0].share, second.note, second.exploration) == (2, 0.25, "looks good", first.exploration)
    assert main(["plan", "--kill"]) == 0
    assert "killed" in capsys.readouterr().out
    assert (read_plan(Path("plan.json")).version, read_plan(Path("plan.json")).killed) == (3, True)
    assert main(["plan", "--revive"]) == 0
    assert read_plan(Path("plan.json")).arms == second.arms
    capsys.readouterr()
    assert main(["plan", "--previous", "old.json", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["version"] == 5
    assert read_plan(Path("plan.json")).arms == first.arms
    assert main(["plan", "--show"]) == 0
    assert "version 5" in capsys.readouterr().out
    assert read_plan(Path("plan.json")).version == 5


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ([], 2, "nothing to change"),
        (["--kill"], 2, "no plan to go on from"),
        (["--kill", "--bundle", "knee"], 2, "changes nothing else"),
        (["--bundle", "nowhere"], 3, "no operating policy"),
        (["--bundle", "bare"], 3, "no operating policy"),
        (["--bundle", "altered"], 3, "was altered"),
        (["--bundle", "other"], 3, "of another bundle"),
        (["--bundle", "knee", "--share", "60", "--static-arm", "60"], 2, "not parts of one whole"),
        (["--show"], 2, "cannot be read"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_written(
    here: Path, capsys: pytest.CaptureFixture[str], words: list[str], code: int, said: str
) -> None:
    exported(here / "knee")
    exported(here / "other", bundle="b" * 64)
    write_fake_bundle(here / "bare")
    text = (exported(here / "altered") / "operating.json").read_text(encoding="utf-8")
    (here / "altered" / "operating.json").write_text(text.replace("0.5", "0.7"), encoding="utf-8")
    assert main(["plan", *words]) == code
    assert said in capsys.readouterr().err
    assert not Path("plan.json").exists()


def test_a_policy_of_fixed_weights_needs_no_bundle(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exported(here / "best", "best static", bundle="", scalarisation=[], cohorts={}, weights=[5.0, 2.0, -4.0])
    assert main(["plan", "--bundle", "best"]) == 0
    assert "weights of its own" in capsys.readouterr().out
    arm = read_plan(Path("plan.json")).arms[0]
    assert (arm.name, arm.weights, arm.bundle) == ("best static", (5.0, 2.0, -4.0), "")
    assert main(["plan", "--bundle", "best", "--explore-share", "1"]) == 2
    assert "exploration needs `levels`" in capsys.readouterr().err


def test_a_torn_plan_is_not_gone_on_from(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exported(here / "knee")
    Path("plan.json").write_text('{"version": 3', encoding="utf-8")
    assert main(["plan", "--bundle", "knee"]) == 2
    assert "plan.json is not a plan" in capsys.readouterr().err
    assert Path("plan.json").read_text(encoding="utf-8") == '{"version": 3'
