"""A plan as a flag: the real flagd provider gives users the shares that the plan declares, and the static weights where it should."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from paretune.cli import main
from paretune.errors import ConfigError
from paretune.exchange.flagd import flag_document, lost, shares_of
from paretune.policy.plan import Arm, Exploration, Plan, encode_plan
from paretune.serving.arms import Split, hash_id

provider = pytest.importorskip("openfeature.contrib.provider.flagd")
from openfeature import api  # noqa: E402
from openfeature.evaluation_context import EvaluationContext  # noqa: E402
from openfeature.flag_evaluation import Reason  # noqa: E402

PLAN = Plan(
    version=7,
    heads=("save", "hide"),
    static=(90.0, -4.0),
    arms=(
        Arm("knee", 0.05, bundle="ab" * 32, scalarisation=(0.4, 0.6), cohorts={"NEW": (0.1, 0.9)}),
        Arm("control", 0.05),
        Arm("bold", 0.125, weights=(150.0, -4.0)),
    ),
    exploration=Exploration(0.01, levels=((90.0, -4.0), (1.0, 1.0))),
)
DEFAULT = {"arm": "in the code", "weights": {"save": 90.0, "hide": -4.0}}


@contextmanager
def asked(folder: Path, document: dict[str, Any]) -> Iterator[Any]:
    """Give a function from a user to what the real provider answers, reading a flag file offline."""
    path = folder / "flags.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    opened = provider.FlagdProvider(resolver_type=provider.config.ResolverType.FILE, offline_flag_source_path=str(path))
    api.set_provider_and_wait(opened, "tests")
    client = api.get_client("tests")
    try:
        yield lambda user: client.get_object_details("utility-weights", DEFAULT, EvaluationContext(user))
    finally:
        api.shutdown()
        api.clear_providers()


def test_users_get_the_shares_that_the_plan_declares(tmp_path: Path) -> None:
    n, users = 4000, [f"user-{i}" for i in range(4000)]
    document = flag_document(PLAN)
    with asked(tmp_path, document) as ask:
        answers = [ask(user) for user in users]
        again = [ask(user).variant for user in users[:200]]
    variants = [answer.variant for answer in answers]
    assert again == variants[:200]
    declared = shares_of(document)
    assert declared == pytest.approx({"knee": 0.05, "control": 0.05, "bold": 0.125, "static": 0.775})
    for name, share in declared.items():
        seen = Counter(variants)[name]
        assert abs(seen - n * share) < 4.5 * np.sqrt(n * share * (1 - share)), name
    values = {answer.variant: answer.value for answer in answers}
    assert values["bold"] == {"arm": "bold", "weights": {"save": 150.0, "hide": -4.0}}
    assert values["control"]["weights"] == values["static"]["weights"] == {"save": 90.0, "hide": -4.0}
    assert values["knee"] == {"arm": "knee", "bundle": "ab" * 32, "scalarisation": [0.4, 0.6], "cohorts": {"NEW": [0.1, 0.9]}}
    ours = Split.of([arm.share for arm in PLAN.arms], PLAN.salt)
    names = [*(arm.name for arm in PLAN.arms), "static"]
    differ = sum(names[ours.part(hash_id(user))] != variant for user, variant in zip(users, variants, strict=True))
    assert differ > 0.2 * n  # two hashes: a user's arm is another one here


def test_a_ramp_keeps_the_users_of_the_first_arm(tmp_path: Path) -> None:
    users, before, after = [f"user-{i}" for i in range(1500)], {}, {}
    for share, found in ((0.05, before), (0.25, after)):
        (folder := tmp_path / str(share)).mkdir()
        with asked(folder, flag_document(replace(PLAN, arms=(replace(PLAN.arms[0], share=share),)))) as ask:
            found.update({user: ask(user).variant for user in users})
    kept = {user for user, variant in before.items() if variant == "knee"}
    assert 0 < len(kept) < sum(variant == "knee" for variant in after.values())
    assert all(after[user] == "knee" for user in kept)


@pytest.mark.parametrize(
    ("change", "variant", "reason"),
    [
        ({"killed": True}, None, Reason.DISABLED),
        ({"arms": ()}, "static", Reason.STATIC),
        ({"arms": PLAN.arms[:1], "default": "knee"}, "knee", Reason.TARGETING_MATCH),
    ],
)
def test_what_everybody_gets(tmp_path: Path, change: dict[str, Any], variant: str | None, reason: Reason) -> None:
    with asked(tmp_path, flag_document(replace(PLAN, **change))) as ask:
        for user in ("a", "b", "c"):
            answer = ask(user)
            assert (answer.variant, answer.reason, answer.error_code) == (variant, reason, None)
            assert (answer.value == DEFAULT) == (variant is None)


def test_who_has_no_key_is_served_static(tmp_path: Path) -> None:
    with asked(tmp_path, flag_document(replace(PLAN, default="knee"))) as ask:
        for nobody in (None, ""):
            assert ask(nobody).variant == "static"


@given(st.lists(st.integers(1, 10_000), min_size=1, max_size=5), st.booleans())
@settings(max_examples=100, deadline=None)
def test_shares_come_back_as_they_were(parts: list[int], named: bool) -> None:
    arms = tuple(Arm(f"arm{i}", part / 50_000) for i, part in enumerate(parts))
    plan = Plan(version=1, heads=("save",), static=(1.0,), arms=arms, default="arm0" if named else "static")
    found = shares_of(flag_document(plan))
    rest = 1 - sum(arm.share for arm in arms)
    expected = {arm.name: arm.share for arm in arms}
    expected[plan.default] = expected.get(plan.default, 0.0) + rest
    assert found == pytest.approx({name: share for name, share in expected.items() if share > 1e-9}, abs=1e-6)


def test_a_share_too_small_for_a_flag_is_refused_and_what_is_lost_is_said() -> None:
    with pytest.raises(ConfigError, match="less than a millionth"):
        flag_document(replace(PLAN, arms=(Arm("tiny", 1e-8),)))
    said = " ".join(lost(replace(PLAN, killed=True)))
    for word in ("nobody is explored (1.00% of requests", "knee choose per request", "DISABLED", "hashes users otherwise"):
        assert word in said
    with pytest.raises(ConfigError, match="no flag of paretune"):
        shares_of({"flags": {}})


def test_the_command_writes_the_flag_and_says_what_is_not_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("plan.json").write_bytes(encode_plan(PLAN))
    assert main(["convert", "plan.json", "--to", "flagd", "--name", "feed"]) == 0
    assert "nobody is explored" in capsys.readouterr().err
    written = json.loads(Path("flags.json").read_text(encoding="utf-8"))
    assert written == flag_document(PLAN, key="feed")
    assert written["flags"]["feed"]["metadata"] == {"planVersion": 7, "planFingerprint": PLAN.fingerprint}
    assert main(["convert", "none.json", "--to", "flagd"]) == 2
