"""Weeks of operation in a simulated world: explore, learn, publish, serve, ramp under guardrails, an incident, and who notices what when.

An edge: writes logs and a registry in a folder. The rules: everything that decides is what production runs (`sweep_logs`, the registry,
`experiment.stepping`); only traffic, the calendar and the people are made up. People do three things: they approve what was published,
activate what was approved, and release a day after the guardrails stepped back, by when they have mended what was wrong.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from paretune.config import Config
from paretune.errors import GateError
from paretune.experiment.earned import seen_lifts
from paretune.experiment.guarding import Memory
from paretune.experiment.ledger import Ledger, kept_ledger
from paretune.experiment.promises import latest_of
from paretune.experiment.stepping import acted, looked
from paretune.experiment.watch import Situation, Step
from paretune.frontier.verdict import CONFIRMED, PROMISING
from paretune.logs.parquet import scan_log
from paretune.monitor.verdict import judge
from paretune.monitor.watch import take_reference, take_window, watched
from paretune.policy.audit import AUTOMAT
from paretune.policy.changes import arm_name, numbers_in
from paretune.policy.registry import Registry
from paretune.policy.rows import Registered
from paretune.ports import Progress, ValueModel, silent
from paretune.records import Log
from paretune.report.archive import MODEL
from paretune.report.contents import Findings
from paretune.run import sweep_logs
from paretune.sim.drifting import Disturbance, Drifting
from paretune.sim.lineup import chooser, line_up
from paretune.sim.operation import DAY_S, Incident, play, time_of
from paretune.sim.traffic import EPOCH_DAY, Chooser
from paretune.sim.world import World
from paretune.value.bundle import load_model

PEOPLE = ("the modeller", "the approver", "the operator")
PREFERRED = ("constrained", "balanced", "knee")  # which pick is put forward
Publish = Callable[[Path, str, Registry, str], Registered]
"""From a run, the label of a pick, a registry and who publishes to a draft."""


@dataclass(frozen=True, slots=True)
class Script:
    """What happens when; days since the world began."""

    explored_days: int = 21  # of exploration, before anything is served; more, week by week, while the data cannot tell
    most_weeks: int = 6  # of exploration
    served_days: int = 14  # after that
    explore_share: float = 0.6  # of requests, while nothing is served
    learning_per_day: int = 16_000  # requests while exploring
    serving_per_day: int = 24_000
    parts: int = 6  # looks of the guardrails per day
    first_share: float = 0.05
    control: float = 0.25
    ramp_to: float = 0.5
    incident: int | None = 6  # so many days after the first activation; None = nothing happens
    rise: float = 1.0  # of the last objective, relative, where a policy is served
    incident_days: int = 7  # how long it would go on by itself
    mended_after_days: float = 1.0  # how long people take
    watch_share: float = 0.05  # of requests explored while a policy is served
    refresh: tuple[tuple[str, float], ...] = (("p2p", 1.6),)  # heads whose scores a refresh of the ranker rescales; empty = none
    season: float = 1.5  # how much other people come at the end, see `sim.drifting`; 0 = none
    watched_days: int = 7  # after each of these, before drift is judged; whole weeks, since weekends are other days
    retrain: bool = True  # at the end


@dataclass(frozen=True, slots=True)
class Event:
    """A line of the timeline."""

    at_s: float  # seconds since 1970
    what: str
    detail: str
    kind: str  # "people", "guardrails", "world", "verdict"


@dataclass
class Rehearsal:
    """What came of it."""

    events: list[Event] = field(default_factory=list)
    days: list[tuple[float, float, float]] = field(default_factory=list)  # time, share of users served a policy, hides of arm over control
    incident_s: tuple[float, float] | None = None  # when it began, and when guardrails or people ended it
    incident_days: int = 0
    verdicts: dict[str, str] = field(default_factory=dict)  # "calm", "refresh", "season" -> what the drift said to do
    ledger: Ledger | None = None
    false_backs: int = 0  # steps back while nothing was wrong

    @property
    def harm_share(self) -> float:
        """Share of the harm of doing nothing that was done; NaN without an incident."""
        if self.incident_s is None:
            return float("nan")
        return min(1.0, (self.incident_s[1] - self.incident_s[0]) / (self.incident_days * DAY_S))

    @property
    def sentence(self) -> str:
        """What came of it."""
        false = f"{self.false_backs} steps back while nothing was wrong" if self.false_backs else "nothing stepped back without a reason"
        if self.incident_s is None:
            return f"An uneventful time: {false}"
        if self.harm_share >= 1:
            return f"The incident was not noticed in {self.incident_days} days; {false}"
        hours = (self.incident_s[1] - self.incident_s[0]) / 3600
        return f"The incident was stepped back from after {hours:.0f} h, at {self.harm_share:.0%} of its harm; {false}"

    def note(self, at_s: float, what: str, detail: str, kind: str) -> None:
        """Add a line to the timeline."""
        self.events.append(Event(at_s, what, detail, kind))


class Operation:
    """A world, its log and its registry, hour by hour."""

    def __init__(self, world: World, folder: Path, script: Script, config: Config, *, publish: Publish, seed: int) -> None:
        """Make an empty log and an empty registry.

        Args:
            world: with three objectives, of which the third is to be kept down.
            folder: of everything.
            script: what happens when.
            config: of the world, with the rollout section to rehearse.
            publish: see `Publish`.
            seed: of all draws.
        """
        self.world, self.folder, self.script, self.config, self.seed = world, folder, script, config, seed
        self._before = world
        self.logs, self.now_s, self.found = folder / "logs", time_of(0), Rehearsal(incident_days=script.incident_days)
        self.registry = Registry(folder / "paretune.db", clock=lambda: self.now_s)
        self.choosers: dict[str, Chooser] = {}
        self._incident: Incident | None = None
        self._since = 0  # day from which a model learns
        self._reference: tuple[int, int] = (0, 0)  # days that the model in force learned from
        self._publish, self._memory = publish, Memory()

    def explore(self, days: int, progress: Progress = silent) -> None:
        """Write days of exploration."""
        script, first = self.script, self._today()
        for day in range(first, first + days):
            play(
                self.world, self.logs, None, {}, day=day, part=0, parts=1, requests_per_day=script.learning_per_day,
                explore_share=script.explore_share, seed=self.seed,
            )  # fmt: skip
            progress((day - first + 1) / days, f"exploring, day {day + 1}")
        self.found.note(self.now_s, f"{days} days of exploration", f"{script.explore_share:.0%} of requests over the grid", "people")
        self.now_s = time_of(first + days)

    def learn(self, name: str, progress: Progress = silent) -> int:
        """Sweep the log, exploring on while the data cannot tell; publish the preferred pick, approve it, and return its number.

        Raises:
            GateError: the data cannot tell after so many weeks, or speaks for no pick.
        """
        run = self.folder / name
        while True:
            config = rehearsed_config(self.world, self._today() - self._since)
            found = sweep_logs(self.logs, config, run, seed=self.seed, draw=False, progress=progress)
            refusal = found.front.refusal
            if refusal is None:
                break
            self.found.note(self.now_s, "not enough data", refusal.reason, "verdict")
            if self._today() - self._since >= 7 * self.script.most_weeks:
                raise GateError(refusal.reason, hint=refusal.remedy)
            self.explore(7)
        labels = [pick.label for pick in found.front.picks if pick.verdict in {CONFIRMED, PROMISING}]
        if not labels:
            raise GateError("no pick is confirmed or promising", hint="explore longer, or more requests a day")
        label = next((label for label in PREFERRED if label in labels), labels[0])
        registered = self._publish(run, label, self.registry, PEOPLE[0])
        self.registry.approve(registered.number, by=PEOPLE[1], note="rehearsed")
        self._ready(registered, found, load_model(run / MODEL))
        self._reference = (self._since, self._today())
        lifts = registered.policy.evidence.lifts["estimate"]
        told = ", ".join(f"{name} {100 * (lift or 0):+.1f} %" for name, lift in zip(found.front.lifts.objectives, lifts, strict=True))
        self.found.note(
            self.now_s, f"policy {registered.number} is approved", f"{label}, {registered.policy.evidence.verdict}: {told}", "people"
        )
        return registered.number

    def _today(self) -> int:
        return round((self.now_s - time_of(0)) / DAY_S)

    def last_days(self, count: int) -> int:
        """Return the day that began so many days ago."""
        return self._today() - count

    def activate(self, number: int) -> None:
        """Serve a policy to its first users."""
        script = self.script
        self.registry.activate(number, share=script.first_share, control=script.control, by=PEOPLE[2], note="first step")
        self.found.note(self.now_s, f"policy {number} serves {script.first_share:.0%}", f"control {script.control:.0%}", "people")

    def serve(self, days: int, *, incident: int | None = None, progress: Progress = silent) -> None:
        """Serve for some days, with the guardrails looking after each part of a day.

        Args:
            days: how many.
            incident: after so many of them the policy's arm begins to serve what it should not; None = never.
            progress: told the share done.
        """
        script, first = self.script, self._today()
        broken_from = None if incident is None else time_of(first + incident)
        over_at = np.inf if broken_from is None else broken_from + script.incident_days * DAY_S
        release_at = np.inf
        for day in range(first, first + days):
            for part in range(script.parts):
                broken = broken_from is not None and broken_from <= self.now_s < over_at
                if broken and self.found.incident_s is None:
                    ends = self.now_s + script.incident_days * DAY_S
                    self.found.incident_s = (self.now_s, ends)
                    self.found.note(self.now_s, "incident", f"{self.world.objectives[-1]} rises by {script.rise:.0%} in the arm", "world")
                play(
                    self.world, self.logs, self.registry.current(), self.choosers,
                    day=day, part=part, parts=script.parts, requests_per_day=script.serving_per_day,
                    explore_share=script.watch_share, incident=self._incident if broken else None, seed=self.seed,
                )  # fmt: skip
                self.now_s = time_of(day, part + 1, script.parts)
                situation, number, step = looked(
                    self.logs, self.config, self.registry, spool=None, ramp_to=script.ramp_to, now_s=self.now_s, memory=self._memory
                )
                self._keep(situation)
                if step.action in {"kill", "rollback", "ramp"}:
                    self._act(situation, number, step, broken=broken)
                    if step.action != "ramp":
                        release_at = self.now_s + script.mended_after_days * DAY_S
                        over_at = min(over_at, release_at) if broken else over_at
                elif self.now_s >= release_at and self._held():
                    self._release()
            progress((day - first + 1) / days, f"serving, day {day - first + 1}")

    def disturb(self, name: str, *, scale: tuple[tuple[str, float], ...], season: float = 0.0) -> str:
        """Change the world, serve some days, and return what the drift then says to do.

        Args:
            name: of the change.
            scale: heads that the ranker scores otherwise from now on, those of earlier changes among them.
            season: how much other people come.
        """
        first = self._today()
        self.world = Drifting(self._before, Disturbance(first, scale=scale, season=season))
        what = "other people come" if season else ", ".join(f"scores of {head} times {factor:g}" for head, factor in scale)
        self.found.note(self.now_s, name, what, "world")
        self.serve(self.script.watched_days)
        return self.watch(name, first)

    def watch(self, name: str, first: int) -> str:
        """Compare the days since one with those that the model learned from, and return what is to be done."""
        plain = self.config

        def rows(low: int, high: int) -> Iterator[Log]:
            days = range(EPOCH_DAY + low, EPOCH_DAY + high)
            return scan_log(self.logs, plain, days=days, candidates=True, predicted=True)

        reference = take_reference(lambda: rows(*self._reference), plain)
        verdict = judge(watched(reference, *take_window(rows(first, self._today()), reference)))
        self.found.verdicts[name] = verdict.answer
        self.found.note(self.now_s, f"drift: {verdict.answer}", verdict.sentence, "verdict")
        return verdict.answer

    def read_out(self, number: int) -> None:
        """Record what users were seen to do under a policy beside what was promised; days of an incident are left out."""
        seen, users, days = seen_lifts(self.logs, self.config, arm_name(number), self._periods(number))
        told = json.dumps([asdict(one) for one in seen], sort_keys=True)
        version = next(one.version for one in self.registry.history() if number in numbers_in(self.registry.plan(one.version)))
        fingerprint = hashlib.sha256(told.encode()).hexdigest()
        self.registry.record_outcome(number, version=version, seen=seen, users=users, days=days, readout=fingerprint, by=PEOPLE[0])
        self.found.ledger = kept_ledger(latest_of(self.registry.outcomes()), confidence=self.config.evaluation.confidence)
        words = ", ".join(f"{one.objective} {100 * one.estimate:+.1f} %" for one in seen)
        self.found.note(self.now_s, f"policy {number} read out", f"seen: {words}", "verdict")

    def take_out(self, number: int) -> None:
        """Serve a policy to nobody any more."""
        self.registry.ramp(number, share=0.0, by=PEOPLE[2], note="the world is another")
        self.found.note(self.now_s, f"policy {number} is taken out", "until it is learned anew", "people")
        self._since = self._today()

    def _periods(self, number: int) -> list[tuple[float, float]]:
        """Return the times in which a policy was served under one plan and nothing was wrong."""
        past, ends, found = self.registry.history(), self.now_s, []
        for one in past:
            begins, plan = one.at_us / 1e6, self.registry.plan(one.version)
            if not plan.killed and number in numbers_in(plan):
                found += _without((begins, ends), self.found.incident_s)
            ends = begins
        return found

    def _act(self, situation: Situation, number: int, step: Step, *, broken: bool) -> None:
        acted(self.registry, step, number=number, situation=situation)
        if step.action == "ramp":
            self.found.note(self.now_s, f"ramp to {situation.next_share:.0%}", step.reasons[0], "guardrails")
            return
        self.found.note(
            self.now_s, "static weights for everybody" if step.action == "kill" else "back", "; ".join(step.reasons), "guardrails"
        )
        if broken and self.found.incident_s is not None:
            self.found.incident_s = (self.found.incident_s[0], min(self.found.incident_s[1], self.now_s))
        else:
            self.found.false_backs += 1

    def _held(self) -> bool:
        plan, past = self.registry.current(), self.registry.history(1)
        return plan is not None and plan.killed and past[0].by == AUTOMAT

    def _release(self) -> None:
        self.registry.release(by=PEOPLE[2], note="mended")
        self.found.note(self.now_s, "released", "a person has looked, and mended what was wrong", "people")

    def _keep(self, situation: Situation) -> None:
        """Keep what the timeline draws."""
        plan = self.registry.current()
        share = 0.0 if plan is None or plan.killed else sum(arm.share for arm in plan.arms if arm.name in self.choosers)
        watched: Mapping[str, float] = {one.name: one.value for one in situation.watched}
        self.found.days.append((self.now_s, share, watched.get(self.world.objectives[-1], float("nan"))))

    def _ready(self, registered: Registered, found: Findings, model: ValueModel) -> None:
        """Keep how the policy's arm chooses, and what an incident would be."""
        policy = next(one for one in found.front.policies if one.name == registered.policy.policy)
        lineup = line_up(self.world, [policy], model=model, scale=found.scale)
        self.choosers[arm_name(registered.number)] = chooser(lineup, 0)
        self._incident = Incident(len(self.world.objectives) - 1, self.script.rise * float(found.front.lifts.production[-1]))


def rehearse(world: World, folder: Path, script: Script, *, publish: Publish, seed: int = 0, progress: Progress = silent) -> Rehearsal:
    """Run the weeks of a script, and return what came of it.

    Args:
        world: with three objectives.
        folder: of everything; new or empty.
        script: what happens when.
        publish: see `Publish`.
        seed: of all draws.
        progress: told the share done.

    Raises:
        GateError: exploration was too little to choose anything.
    """

    def part(low: float, high: float) -> Progress:
        return lambda share, doing: progress(low + (high - low) * share, doing)

    operation = Operation(world, folder, script, rehearsed_config(world, script.explored_days), publish=publish, seed=seed)
    operation.explore(script.explored_days, part(0.0, 0.35))
    number = operation.learn("run", part(0.35, 0.5))
    operation.activate(number)
    operation.serve(script.served_days, incident=script.incident, progress=part(0.5, 0.7))
    operation.read_out(number)
    operation.watch("calm", operation.last_days(script.watched_days))
    if script.refresh:
        operation.disturb("refresh", scale=script.refresh)
    if script.season:
        operation.disturb("season", scale=script.refresh, season=script.season)
    if script.retrain:
        operation.take_out(number)
        operation.explore(script.explored_days, part(0.8, 0.9))
        number = operation.learn("run-2", part(0.9, 0.95))
        operation.activate(number)
        operation.serve(script.watched_days, progress=part(0.95, 1.0))
        operation.read_out(number)
    progress(1.0, "done")
    operation.registry.close()
    return operation.found


def _without(span: tuple[float, float], hole: tuple[float, float] | None) -> list[tuple[float, float]]:
    """Return what is left of a span of time outside another."""
    if hole is None or hole[1] <= span[0] or hole[0] >= span[1]:
        return [span]
    return [(low, high) for low, high in ((span[0], hole[0]), (hole[1], span[1])) if low < high]


def rehearsed_config(world: World, days: int) -> Config:
    """Return the world's configuration for so many days of log, with a rollout that fits its traffic."""
    raw = world.config().model_dump(mode="json")
    held_out = max(2, days // 3)
    raw["evaluation"] |= {"train_days": days - held_out, "hold_out_days": held_out}
    raw["rollout"] = {"on_breach": "kill", "hold_hours": 24.0, "least_users": 300, "planned_users": 5_000}
    return Config.model_validate(raw)
