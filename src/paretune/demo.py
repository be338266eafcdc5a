"""The whole loop on a simulated feed: traffic, check, training, sweep, picks, an A/B test of the picks, the truth beside every estimate.

An edge: files of a run, the clock. The rules: what learns and chooses reads the written log and nothing else; the world's truth is asked
only after the picks are made. A run that was killed goes on where it stopped, one that ended is made anew, and a folder that no demo
made is left alone. The logs explore far more than a live feed would, to fit in minutes; nothing else is special to the demo.
"""

from __future__ import annotations

import json
import resource
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path

import altair as alt
import numpy as np

from paretune.atomic import write_whole
from paretune.config import Config
from paretune.errors import ConfigError
from paretune.frontier.assemble import minimised_of
from paretune.frontier.front import Front, Policy
from paretune.frontier.references import MATCHED, describe
from paretune.ports import Progress, ValueModel, part_of, silent
from paretune.report.archive import FIGURES, MODEL, PAGE, save_run
from paretune.report.contents import Findings, report_figures, report_sections
from paretune.report.diagnostics import WeightRange, engagement_figure, weight_range_figure
from paretune.report.html import Section, save_figures, write_report
from paretune.report.tables import MISSING, Outcome, Table, interval, percent, probability, signed, worded
from paretune.run import sample_candidates, sweep_logs
from paretune.sim.abtest import SUCCESSFUL, Readout, run_abtest
from paretune.sim.lineup import Lineup, chooser, line_up
from paretune.sim.traffic import write_logs
from paretune.sim.truth import Truth, true_lifts
from paretune.sim.world import World, open_world
from paretune.surface.contribution import engagement_bins, weight_range_curve
from paretune.value.bundle import load_model

TRAIN_DAYS, HOLD_OUT_DAYS, TEST_DAYS = 14, 7, 7
LOGS, MARKER = "logs", "demo.json"


@dataclass(frozen=True, slots=True)
class Sizes:
    """Rows, over all days."""

    train_explored: int = 200_000
    train_production: int = 80_000
    hold_out_explored: int = 450_000
    hold_out_production: int = 450_000
    requests_per_arm: int = 120_000
    truth_requests: int = 50_000


FULL = Sizes()
QUICK = Sizes(20_000, 10_000, 30_000, 30_000, 8_000, 6_000)


@dataclass(frozen=True, slots=True)
class Stage:
    """What a stage took."""

    name: str
    wall_s: float
    cpu_s: float
    peak_gib: float  # of the process so far


@dataclass(frozen=True, slots=True)
class Demo:
    """What a demo found."""

    findings: Findings  # with the simulated online lifts of the picks, and the truth of every policy
    readout: Readout  # of the A/B test
    tested: tuple[int, ...]  # policy behind each of its arms
    truth: Truth  # of the front's policies, then of the knee's exact average weights
    average: Policy  # these weights
    stages: tuple[Stage, ...]
    report: Path


def run_demo(
    folder: Path,
    *,
    world: str = "homefeed",
    setting: str = "",
    seed: int = 0,
    data: Path | None = None,
    model: str | None = None,
    objectives: int = 2,
    sizes: Sizes = FULL,
    progress: Progress = silent,
) -> Demo:
    """Run the whole loop in a folder and return what was found.

    Args:
        folder: of the run; made if missing. Holds the logs, the model, the front, report.html and figures/ afterwards.
        world: ``homefeed`` or ``kuairand``.
        setting: of the world; empty takes its first.
        seed: of the world, its traffic, training and tests.
        data: folder of the KuaiRand files; ``kuairand`` only.
        model: a kind of value model, in place of the configuration's.
        objectives: of the world: 2, or 3, of which the third is a guardrail.
        sizes: how much traffic.
        progress: told of all stages.

    Raises:
        ConfigError: no such world, or the folder holds something else.
        GateError: so little traffic that the data cannot tell.
    """
    clock = Clock()
    plan = {
        "world": world,
        "setting": setting,
        "seed": seed,
        "data": str(data),
        "model": model,
        "objectives": objectives,
        "version": version("paretune"),
        **asdict(sizes),
    }
    done = _claim(folder, plan)
    with clock.stage("world"):
        feed = open_world(world, setting=setting, seed=seed, data=data, objectives=objectives)
        config = feed.config()
    with clock.stage("simulate"):
        if "simulate" not in done:
            write_traffic(feed, folder / LOGS, sizes, seed=seed, progress=part_of(progress, 0.02, 0.35))
            _mark(folder, plan, ["simulate"])
    with clock.stage("check, train, sweep"):
        found = sweep_logs(folder / LOGS, config, folder, model=model, seed=seed, draw=False, progress=part_of(progress, 0.35, 0.75))
    lineup, average = line_up_front(feed, found, load_model(folder / MODEL))
    arms = tested_policies(found.front)
    with clock.stage("A/B test"):
        names = [(name, chooser(lineup, policy)) for name, policy in arms.items()]
        days = range(TRAIN_DAYS + HOLD_OUT_DAYS, TRAIN_DAYS + HOLD_OUT_DAYS + TEST_DAYS)
        told = part_of(progress, 0.75, 0.88)
        readout = run_abtest(feed, names, days=days, requests_per_arm=sizes.requests_per_arm, seed=seed, progress=told)
    with clock.stage("truth"):
        truth = true_lifts(feed, lineup, n=sizes.truth_requests, days=days, seed=seed, progress=part_of(progress, 0.88, 0.95))
    tested = tuple(arms.values())
    online = outcome_of(found.front, readout, tested)
    found = replace(found, online=online, truth=truth.lift[: len(found.front.policies)])
    result = Demo(found, readout, tested, truth, average, (), folder / PAGE)
    with clock.stage("report"):
        save_run(found, folder)  # again, with what the world knows
        publish_demo(result, folder, title=f"paretune demo: {feed.name}, {feed.setting}")
    _mark(folder, plan, None)
    progress(1.0, "done")
    return replace(result, stages=tuple(clock.stages))


def write_traffic(feed: World, logs: Path, sizes: Sizes, *, seed: int, progress: Progress = silent) -> int:
    """Write the days that train and the days that are held out, and return the number of rows."""
    spans = (
        (range(TRAIN_DAYS), sizes.train_explored, sizes.train_production),
        (range(TRAIN_DAYS, TRAIN_DAYS + HOLD_OUT_DAYS), sizes.hold_out_explored, sizes.hold_out_production),
    )
    whole = sum(explored + production for _, explored, production in spans)
    rows, start = 0, 0.0
    for days, explored, production in spans:
        total = explored + production
        end = start + total / whole
        rows += write_logs(
            feed,
            logs,
            days=days,
            requests_per_day=-(-total // len(days)),
            explore_share=explored / total,
            seed=seed,
            progress=part_of(progress, start, end),
        )
        start = end
    return rows


def line_up_front(feed: World, found: Findings, model: ValueModel) -> tuple[Lineup, Policy]:
    """Return all policies of a front as they would be served, and after them everybody on the knee's exact average weights."""
    front = found.front
    knee = next(pick.policy for pick in front.picks if pick.label == "knee")
    average = Policy("average weights of the knee", "matched static", weights=front.mean_weights[knee])
    return line_up(feed, [*front.policies, average], model=model, scale=found.scale), average


def tested_policies(front: Front) -> dict[str, int]:
    """Return the arms of the A/B test: each policy that was picked, and the matched static weights of the knee."""
    labels = front.labels()
    knee = next(pick.policy for pick in front.picks if pick.label == "knee")
    arms = {", ".join(names): policy for policy, names in labels.items()}
    wanted = [f"{MATCHED}{name}" for name in labels[knee]]
    for policy, each in enumerate(front.policies):
        if each.kind == "matched static" and any(each.name.startswith(name) for name in wanted):
            arms[each.name.split(" (")[0]] = policy
    return arms


def outcome_of(front: Front, readout: Readout, tested: tuple[int, ...]) -> Outcome:
    """Return the simulated online lifts in the order of the picks."""
    arm = [tested.index(pick.policy) for pick in front.picks]
    objectives = len(front.lifts.objectives)
    return Outcome(readout.lift[arm, :objectives], readout.low[arm, :objectives], readout.high[arm, :objectives])


def outcome_table(demo: Demo) -> Table:
    """Return what was promised offline, seen online and is true, per policy that was tested."""
    front, readout, rows = demo.findings.front, demo.readout, []
    lifts = front.lifts
    risk = {pick.policy: pick.probability_degrading for pick in front.picks}
    verdict = {pick.policy: pick.verdict for pick in front.picks}
    minimised = minimised_of(demo.findings.config)
    for arm, (name, p) in enumerate(zip(readout.arms, demo.tested, strict=True)):
        for j, metric in enumerate(readout.metrics):
            seen = interval(readout.lift[arm, j], readout.low[arm, j], readout.high[arm, j])
            offline = truth = MISSING
            if metric != SUCCESSFUL:
                offline = interval(lifts.estimate[p, j], lifts.band_low[p, j], lifts.band_high[p, j])
                truth = signed(demo.truth.lift[p, j])
            first = (name, front.policies[p].name if p in risk else "") if j == 0 else ("", "")
            judged = (probability(risk[p]), verdict[p]) if j == 0 and p in risk else ("", "")
            rows.append((*first, worded(metric, minimised), offline, seen, truth, *judged))
    heads = (
        "tested",
        "policy",
        "metric",
        f"offline lift ({percent(lifts.confidence)} band)",
        "online lift (simulated A/B)",
        "truth",
        "P(degrading)",
        "verdict",
    )
    weights = demo.average.weights
    exact = ""
    if weights is not None:
        true = ", ".join(f"{name} {signed(lift)}" for name, lift in zip(lifts.objectives, demo.truth.lift[-1], strict=True))
        exact = f" Everybody on the knee's exact average weights ({describe(demo.findings.config.surface.build(), weights)}): truly {true}."
    wanted = [objective.name for objective in demo.findings.config.objectives if objective.direction == "maximise"]
    note = (
        f"Lifts are relative to production. Arms of about {readout.requests[0]:,} requests of {readout.users[0]:,} users; the truth is "
        f"averaged over {demo.truth.requests:,} requests (standard error up to {signed(float(demo.truth.std_error.max())).lstrip('+')})."
        f" Successful sessions hold at least one {' or '.join(wanted)}. Online, a policy also changes how long sessions last, so "
        f"which requests there are; offline estimate and truth speak of the requests that production has.{exact}"
    )
    return Table("Picks: promised offline, seen online, and true", heads, tuple(rows), note)


def publish_demo(demo: Demo, folder: Path, *, title: str) -> None:
    """Write report.html and the pictures."""
    found = demo.findings
    charts = dict(report_figures(found))
    surface_charts = dict(surface_figures(folder / LOGS, found.config))
    tested = Section(
        "Offline, online and the truth", ("The A/B test serves the picks to users of the simulated feed.",), (outcome_table(demo),)
    )
    sections = report_sections(found, charts=charts)
    sections.insert(1, tested)
    text = "How far each weight moves its head's share of utility, and how rare events are."
    sections.insert(-1, Section("Surface and rewards", (text,), tuple(surface_charts.values())))
    lifts = found.front.lifts
    lead = (
        f"{lifts.n_rows:,} held-out requests of {lifts.n_users:,} simulated users; lifts are relative to the static weights in production. "
        "Logs explore far more than a live feed would, to fit in minutes."
    )
    save_figures((charts | surface_charts).items(), folder / FIGURES)
    write_report(folder / PAGE, sections, title=title, lead=lead)


def surface_figures(logs: Path, config: Config) -> Iterator[tuple[str, alt.TopLevelMixin]]:
    """Yield the pictures of App. A of the paper: weight ranges of the tuned heads, and events per request."""
    log, scores = sample_candidates(logs, config)
    surface = config.surface.build()
    ranges = []
    for i in surface.tuned:
        head = surface.heads[i]
        weights = np.geomspace(head.levels[0] / 2, head.levels[-1] * 2, 40)
        curve = weight_range_curve(scores, surface.static, i, weights)
        ranges.append(WeightRange(head.name, weights, curve, head.weight, head.levels[0], head.levels[-1]))
    yield "ranges", weight_range_figure(tuple(ranges))
    yield "engagement", engagement_figure({o.name: engagement_bins(log.rewards[:, j], 20) for j, o in enumerate(config.objectives)})


class Clock:
    """Seconds and memory per stage."""

    def __init__(self) -> None:
        self.stages: list[Stage] = []

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time what happens inside."""
        wall, cpu = time.monotonic(), time.process_time()
        yield
        self.stages.append(Stage(name, time.monotonic() - wall, time.process_time() - cpu, peak_memory_gib()))


def peak_memory_gib() -> float:
    """Return the largest resident memory of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**30 if sys.platform == "darwin" else peak / 2**20  # bytes there, KiB elsewhere


def _claim(folder: Path, plan: dict[str, object]) -> list[str]:
    """Make the folder ready and return the stages that an unfinished run of the same plan has behind it."""
    marker = folder / MARKER
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is a file", hint="name another folder with --output")
    if folder.is_dir() and any(folder.iterdir()) and not marker.exists():
        raise ConfigError(f"{folder} holds something that no demo made", hint="name another folder with --output")
    try:
        left = json.loads(marker.read_text(encoding="utf-8")) if marker.exists() else {}
        same = left.get("plan") == json.loads(json.dumps(plan))
    except (ValueError, AttributeError):  # a torn marker
        left, same = {}, False
    if same and left.get("done") is not None:
        return list(left["done"])
    folder.mkdir(parents=True, exist_ok=True)
    _mark(folder, plan, [])
    for name in (LOGS, MODEL, f"{MODEL}.checkpoint", FIGURES):
        if (folder / name).is_dir():
            shutil.rmtree(folder / name)
    return []


def _mark(folder: Path, plan: dict[str, object], done: list[str] | None) -> None:
    """Note how far the run is; None = it ended."""
    write_whole(folder / MARKER, json.dumps({"plan": plan, "done": done}, indent=1).encode())
