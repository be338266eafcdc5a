"""Vowpal Wabbit's logs: the real VW reads the same lines and sees the same labels, and its loss is our value."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from foreign import ACTIONS, CONFIG, RAW, Decision, adf, cb, configured, decisions, dsjson

from paretune.cli import main
from paretune.config import parse_config
from paretune.errors import LogError
from paretune.exchange import vw_dsjson, vw_text
from paretune.exchange.drawn import CERTAIN, UNSHOWN, numbering
from paretune.exchange.taken import Reading, Taken
from paretune.logs.parquet import read_log
from paretune.ope.clusters import user_buckets
from paretune.ope.estimators import ips, policy_sums
from paretune.records import Log

vw = pytest.importorskip("vowpalwabbit")
FIELDS = {"user": "User.id"}


def reading(config: Any = CONFIG, **other: Any) -> Reading:
    surface = config.surface.build()
    return Reading(config, surface, "a.log", **({"numbering": numbering(surface), "fields": FIELDS} | other))


def taken(lines: list[str], form: str = "dsjson", **other: Any) -> Taken:
    numbered = list(enumerate("".join(lines).split("\n") if form == "adf" else lines, 1))
    if form == "dsjson":
        return vw_dsjson.taken(numbered, reading(**other))
    return vw_text.taken(vw_text.blocks_of(numbered, form), reading(**other), form)  # type: ignore[arg-type]


def label_of(workspace: Any, line: str) -> tuple[int, float, float] | None:
    """Return the action (from 0), cost and probability that VW sees in a line, None where it sees none."""
    parsed = workspace.parse(line)
    examples = parsed if isinstance(parsed, list) else [parsed]
    labels = [example.get_label(vw.LabelType.CONTEXTUAL_BANDIT).costs for example in examples]
    workspace.finish_example(parsed)
    shared = len(examples) > 1 and any(cost.probability < 0 for cost in labels[0])
    found = [
        (place if len(labels) > 1 else cost.action - 1, cost.cost, cost.probability)
        for place, costs in enumerate(labels[shared:])
        for cost in costs
        if cost.probability > 0
    ]
    return found[0] if len(found) == 1 else None


@pytest.mark.parametrize(
    ("form", "write", "arguments"),
    [("dsjson", dsjson, "--cb_explore_adf --dsjson"), ("cb", cb, f"--cb {ACTIONS}"), ("adf", adf, "--cb_explore_adf")],
)
def test_vw_sees_the_labels_that_are_imported(form: str, write: Any, arguments: str) -> None:
    made = decisions(60)
    found = taken([write(d) for d in made], form)
    workspace = vw.Workspace(f"{arguments} --quiet")
    seen = [label_of(workspace, write(d).rstrip("\n")) for d in made]
    workspace.finish()
    assert len(found.refused) == 0
    action, cost, probability = zip(*[label for label in seen if label is not None], strict=True)
    np.testing.assert_array_equal(found.rows["action"].to_numpy() - 1, action)
    np.testing.assert_array_equal(found.rows["saves"].to_numpy(), -np.array(cost) + 0.0)
    np.testing.assert_allclose(found.rows["propensity"].to_numpy(), probability, rtol=3e-7)  # VW reads decimals to the last bit but one
    assert found.rows["propensity"].to_list() == [d.propensity for d in made]
    assert found.rows["age"].to_list() == [d.age for d in made]
    assert found.rows["device"].to_list() == [d.device for d in made]
    assert found.rows["user"].to_list() == [d.user for d in made]
    assert found.rows["request_id"].to_list() == [f"e{d.number}" for d in made]
    assert set(found.rows["reason"]) == {"EXPLORE"}


def imported(tmp_path: Path, lines: list[str], *options: str, config: Any = CONFIG) -> Log:
    (tmp_path / "d.json").write_text("\n".join(lines), encoding="utf-8")
    configured(tmp_path, RAW if config is CONFIG else config)
    toml = str(tmp_path / "paretune.toml")
    assert (
        main(["import", "vw", str(tmp_path / "d.json"), "-o", str(tmp_path / "logs"), "-c", toml, "--field", "user=User.id", *options]) == 0
    )
    return read_log(tmp_path / "logs", CONFIG)


@pytest.mark.parametrize("pdrop", [None, 0.75])
def test_the_loss_of_a_policy_in_vw_is_minus_its_value_by_ips_here(tmp_path: Path, pdrop: float | None) -> None:
    lines = [dsjson(d, pdrop=pdrop) for d in decisions(800, seed=1)]
    learner = vw.Workspace("--cb_explore_adf --dsjson --epsilon 0 --cb_type ips --quiet --ignore A")
    for line in lines:
        learner.learn(line)
    learner.save(str(tmp_path / "policy.vw"))
    learner.finish()
    judge = vw.Workspace(f"-i {tmp_path / 'policy.vw'} -t --dsjson --quiet")
    chosen = []
    for line in lines:
        examples = judge.parse(line)
        chosen.append(judge.predict(examples))
        judge.finish_example(examples)
    loss = judge.get_sum_loss() / judge.get_weighted_examples()
    judge.finish()
    log = imported(tmp_path, lines)
    order = {int(request): place for place, request in enumerate(log.request)}
    rows = log.take(np.array([order[int(request)] for request in imported_order(lines)]))
    target = np.array(chosen)  # (n, ACTIONS) probabilities of VW's policy, greedy but for ties
    weight = target[np.arange(len(rows)), rows.action - 1] / rows.propensity
    sums = policy_sums(rows.rewards, rows.propensity, weight[:, None], user_buckets(rows.user), pooled=True)
    assert ips(sums).value[0, 0] == pytest.approx(-loss, rel=1e-5)
    assert -loss > 0.05


def imported_order(lines: list[str]) -> np.ndarray:
    from paretune.logs.hashing import hash_texts

    return hash_texts([json.loads(line)["EventId"].encode() for line in lines])


GOOD = decisions(1)[0]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (dsjson(GOOD)[:-20], "no JSON"),
        ("[1, 2]", "no JSON object"),
        (dsjson(GOOD, _labelIndex=None, _label_cost=None, _label_probability=None), "no label"),
        (dsjson(GOOD, _labelIndex=None), "no label"),
        (dsjson(GOOD, _labelIndex="2"), "the label is no index"),
        (dsjson(GOOD, _label_probability=float("nan")), "no JSON"),
        (dsjson(GOOD, _labelIndex=ACTIONS, _label_Action=None), "an action that was not offered"),
        (dsjson(GOOD, _label_Action=(GOOD.action + 1) % ACTIONS + 1), "_label_Action is not"),
        (dsjson(GOOD, _label_probability=0.5), "_label_probability is not what p says"),
        (dsjson(GOOD, _skipLearn=True), "_skipLearn"),
        (dsjson(GOOD, pdrop=1.0), "pdrop is not in"),
        (dsjson(GOOD, c={"User": {}, "_multi": [{}, {}]}), "another number of actions"),
        (dsjson(GOOD, c={"User": {}, "_slots": []}), "a decision over slots"),
        ('{"RewardValue": 1, "EventId": "e1"}', "no decision"),
        ('{"c": ' + '{"a":' * 5000 + "1" + "}" * 5000 + "}", "no JSON"),
        (dsjson(GOOD).replace("User", "Us\udce9r"), "not UTF-8"),  # a byte that is none, as files are read
    ],
)
def test_a_line_that_is_no_whole_decision_is_refused_with_its_reason(line: str, reason: str) -> None:
    found = taken(["", line])
    assert len(found.rows) == 0
    assert found.refused["reason"][0].startswith(reason)
    assert found.refused["line"][0] == 2
    assert found.refused["text"][0].startswith(line[:10])


@pytest.mark.parametrize(
    ("line", "form", "reason"),
    [
        ("1:2:0.4|a b", "cb", "no label"),  # for VW too the label is a tag
        ("|a b", "cb", "no label"),
        ("1:2:x |a b", "cb", "the label is no action"),
        ("1:2:nan |a b", "cb", "the label is no action"),
        ("0:1:0.5 |a b", "cb", "an action that was not offered"),
        ("1 2:1:0.5 4 |a b", "cb", "another number of actions"),
        ("shared|u a\n" + "|\n" * (ACTIONS - 1) + "0:1:0.5 |", "adf", "another number of actions"),  # for VW the header is an action
        ("shared |u a\n" + "|\n" * ACTIONS, "adf", "no label"),
        ("shared |u a\n0:1:0.5 |\n0:1:0.5 |" + "|\n" * ACTIONS, "adf", "no label"),
    ],
)
def test_text_that_is_no_whole_decision_is_refused_as_vw_reads_it(line: str, form: str, reason: str) -> None:
    found = taken([line, "\n\n"] if form == "adf" else [line], form)
    assert len(found.rows) == 0
    assert found.refused["reason"][0].startswith(reason)


def test_every_line_is_taken_or_refused_and_the_good_ones_are_not_touched_by_the_bad(tmp_path: Path) -> None:
    made = decisions(40)
    lines = [dsjson(d) for d in made]
    rotten = [*lines[:10], "{", *lines[10:30], dsjson(made[30], _skipLearn=True), "", *lines[31:]]
    log = imported(tmp_path, rotten)
    assert len(log) == 39
    (refused,) = (tmp_path / "logs" / "_import" / "refused").glob("*.parquet")
    assert pl.read_parquet(refused)["line"].to_list() == [11, 32]
    report = json.loads((tmp_path / "logs" / "_import" / "report-1.json").read_text(encoding="utf-8"))
    assert report["rows"] + sum(report["refused"].values()) == sum(bool(line) for line in rotten)


def test_the_format_is_found_from_the_first_lines() -> None:
    made = decisions(4)
    assert vw_text.form_of([dsjson(d) for d in made]) == "dsjson"
    assert vw_text.form_of([cb(d) for d in made]) == "cb"
    assert vw_text.form_of("".join(adf(d) for d in made).split("\n")) == "adf"
    assert vw_text.form_of(["| a=1", "0:1:0.5 | a=2"]) == "adf"


@pytest.mark.parametrize("thin", [False, True])
def test_lines_that_stand_for_different_shares_of_the_traffic_are_refused_or_thinned(tmp_path: Path, thin: bool, capsys: Any) -> None:
    lines = [dsjson(d, pdrop=(None, 0.5)[d.number % 2]) for d in decisions(2000, seed=3)]
    (tmp_path / "d.json").write_text("\n".join(lines), encoding="utf-8")
    configured(tmp_path)
    words = ["import", "vw", str(tmp_path / "d.json"), "-o", str(tmp_path / "logs"), "-c", str(tmp_path / "paretune.toml")]
    if not thin:
        assert main(words) == 3
        assert "pdrop is 0, 0.5" in capsys.readouterr().err
        assert not (tmp_path / "logs").exists()
        return
    assert main([*words, "--thin", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["rows"] + told["thinned"] == 2000
    log = read_log(tmp_path / "logs", CONFIG)
    odd = np.isin(log.request, imported_order([line for line in lines if "pdrop" in line]))
    assert odd.sum() == 1000  # all that stand for two are kept
    assert abs((~odd).sum() - 500) < 5 * np.sqrt(250)  # and half of those that stand for one


def test_pdrops_are_read_without_reading_the_rest() -> None:
    assert vw_dsjson.pdrops([dsjson(GOOD), dsjson(GOOD, pdrop=0.25), "{", "[]", dsjson(GOOD, pdrop=7)]) == {0.0, 0.25}
    assert vw_dsjson.share_of(set(), thin=False) == 1
    assert vw_dsjson.share_of({0.0, 0.25}, thin=True) == 0.75
    with pytest.raises(LogError, match=r"0, 0\.25"):
        vw_dsjson.share_of({0.0, 0.25}, thin=False)


def test_outcomes_of_several_objectives_are_added_up_and_nothing_seen_is_no_event() -> None:
    config = parse_config(RAW | {"objectives": [{"name": "save", "column": "saves"}, {"name": "hide", "column": "hides"}]})
    seen = [[{"v": {"saves": 1}}, {"v": {"saves": 1, "hide": 2}}], [], [{"v": 3.0}], None]
    found = taken([dsjson(d, o=o) for d, o in zip(decisions(4), seen, strict=True)], config=config)
    assert found.rows["saves"].to_list() == [2, 0, 0, 0]
    assert found.rows["hides"].to_list() == [2, 0, 0, 0]
    assert {"saves", "hides"} <= found.found
    mapped = taken([dsjson(decisions(1)[0], o=seen[0])], config=config, fields={"hides": "reward", "saves": "o.hide"})
    assert mapped.rows["saves"].to_list() == [2]
    assert mapped.rows["hides"].to_list() == [decisions(1)[0].reward]


def test_rows_that_speak_for_no_policy_are_kept_and_counted() -> None:
    surface = CONFIG.surface.build()
    certain = dsjson(GOOD, _label_probability=1.0, a=None, p=None)
    shifted = numbering(surface, range(ACTIONS))  # their first action is production
    zero = Decision(7, "u", 30.0, "web", (1 / ACTIONS,) * ACTIONS, 0, 1.0)
    found = taken([certain, dsjson(zero)], numbering=shifted)
    assert found.rows["reason"].to_list() == ["POLICY", "POLICY"]
    assert found.notes[CERTAIN] == 1
    assert found.notes[UNSHOWN] == 1
    assert found.rows["action"].to_list() == [GOOD.action, 0]


def test_an_action_is_numbered_as_it_is_said(tmp_path: Path) -> None:
    made = decisions(30)
    backwards = ",".join(str(a) for a in range(ACTIONS, 0, -1))
    log = imported(tmp_path, [dsjson(d) for d in made], "--actions", backwards)
    at = {int(request): place for place, request in enumerate(log.request)}
    places = [at[int(request)] for request in imported_order([dsjson(d) for d in made])]
    np.testing.assert_array_equal(log.action[places], [ACTIONS - d.action for d in made])
