"""Operation in small: an incident is stepped back from, people release it, and nothing steps back without a reason."""

import json
from dataclasses import astuple, replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from registries import ANNA, BERT, document

from paretune.cli import main
from paretune.rehearse import Operation, Rehearsal, Script, rehearsed_config
from paretune.report.timeline import timeline_figure, timeline_table
from paretune.sim import open_world
from paretune.sim.operation import DAY_S, Incident, play, time_of
from paretune.sim.tested import fixed

SCRIPT = Script(explored_days=0, serving_per_day=6_000, parts=3, first_share=0.25, ramp_to=0.5)


def operated(folder: Path, script: Script, days: int) -> Rehearsal:
    """Some days under a policy that serves the static weights, so that every difference is the incident's."""
    world = open_world("homefeed", setting="demo", seed=8, objectives=3)
    operation = Operation(world, folder, script, rehearsed_config(world, 9), publish=lambda *_: pytest.fail("nothing is learnt"), seed=8)
    static = world.surface.static
    heads = list(world.surface.names)
    operation.registry.publish(document(None, heads=heads, static=static.tolist(), weights=(static * 1.0000001).tolist()), by=ANNA)
    operation.registry.approve(1, by=BERT)
    operation.choosers["policy-1"] = fixed(world, static)
    operation._incident = Incident(2, 0.05)
    operation.activate(1)
    operation.serve(days, incident=script.incident)
    assert operation.registry.verify() == []
    operation.registry.close()
    return operation.found


@pytest.fixture(scope="module")
def eventful(tmp_path_factory: pytest.TempPathFactory) -> Rehearsal:
    return operated(tmp_path_factory.mktemp("eventful"), replace(SCRIPT, incident=2), 5)


def test_an_incident_is_stepped_back_from_early_and_released_by_a_person(eventful: Rehearsal) -> None:
    assert eventful.harm_share < 0.2
    assert eventful.false_backs == 0
    told = [(event.what, event.kind) for event in eventful.events]
    incident = told.index(("incident", "world"))
    assert told[incident + 1] == ("static weights for everybody", "guardrails")
    assert told[incident + 2] == ("released", "people")
    assert "hide: +" in eventful.events[incident + 1].detail
    assert eventful.events[incident + 2].at_s - eventful.events[incident + 1].at_s >= DAY_S
    assert any(what.startswith("ramp to 50%") for what, _ in told[:incident])
    assert eventful.sentence.startswith("The incident was stepped back from after ")
    shares = {share for _, share, _ in eventful.days}
    assert shares == {0.25, 0.5, 0.0}


def test_days_without_an_incident_end_without_a_step_back(tmp_path: Path) -> None:
    calm = operated(tmp_path, replace(SCRIPT, incident=None), 3)
    assert (calm.false_backs, np.isnan(calm.harm_share)) == (0, True)
    assert calm.sentence == "An uneventful time: nothing stepped back without a reason"


def test_parts_of_a_day_share_no_request_and_lie_in_their_hours(tmp_path: Path) -> None:
    world = open_world("homefeed", setting="demo", seed=8)
    total = sum(play(world, tmp_path, None, {}, day=2, part=part, parts=3, requests_per_day=900, explore_share=0.5) for part in range(3))
    rows = pl.read_parquet(tmp_path / "day=*" / "*.parquet")
    assert len(rows) == rows["request_id"].n_unique() == total
    assert rows["arm"].unique().to_list() == [""]
    hours = rows["ts"].dt.epoch("s")
    assert hours.min() >= time_of(2)  # type: ignore[operator]
    assert hours.max() < time_of(3)  # type: ignore[operator]
    assert 0.4 < rows["reason"].eq("EXPLORE").mean() < 0.6  # type: ignore[operator]


def test_an_incident_adds_events_where_a_policy_is_served_and_nowhere_else(tmp_path: Path, eventful: Rehearsal) -> None:
    assert eventful.incident_s is not None
    world = open_world("homefeed", setting="demo", seed=8, objectives=3)
    operation = Operation(world, tmp_path, SCRIPT, rehearsed_config(world, 9), publish=lambda *_: pytest.fail("no"), seed=8)
    static, heads = world.surface.static, list(world.surface.names)
    operation.registry.publish(document(None, heads=heads, static=static.tolist(), weights=(static * 1.0000001).tolist()), by=ANNA)
    operation.registry.approve(1, by=BERT)
    operation.activate(1)
    plan, column = operation.registry.current(), world.config().objectives[2].column
    choosers = {"policy-1": fixed(world, static)}
    rows = []
    for incident in (None, Incident(2, 1.0)):
        play(world, operation.logs, plan, choosers, day=0, part=0, parts=1, requests_per_day=1_500, incident=incident, seed=3)
        rows.append(pl.read_parquet(operation.logs / "day=*" / "*.parquet").sort("request_id"))
    more = rows[1][column] - rows[0][column]
    assert (more == (rows[0]["arm"] == "policy-1").cast(pl.Int64)).all()
    operation.registry.close()


def test_the_timeline_names_every_event(eventful: Rehearsal) -> None:
    events = [astuple(event) for event in eventful.events]
    drawn = timeline_figure(events, eventful.days, watched="hide", title=eventful.sentence).to_json()
    table = timeline_table(events)
    assert len(table.rows) == len(events)
    for event in eventful.events:
        assert event.what in drawn


@pytest.mark.slow
@pytest.mark.e2e
def test_the_whole_rehearsal_ends_in_a_page(tmp_path: Path) -> None:
    assert main(["rehearse", "--seed", "1", "-o", str(tmp_path)]) == 0
    assert "The incident was stepped back from after" in (tmp_path / "rehearsal.html").read_text(encoding="utf-8")
    assert (tmp_path / "paretune.db").exists()


def test_the_command_can_tell_its_result_to_a_program(
    eventful: Rehearsal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def rehearsed(_: object, folder: Path, *__: object, **___: object) -> Rehearsal:
        (folder / "paretune.db").touch()
        return eventful

    monkeypatch.setattr("paretune.rehearse.rehearse", rehearsed)
    assert main(["rehearse", "-o", str(tmp_path), "--json"]) in {0, 4}
    told = json.loads(capsys.readouterr().out)
    assert told["sentence"] == eventful.sentence
    assert Path(told["page"]).exists()
