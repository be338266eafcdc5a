"""How time and memory grow with the rows of a log, and with the actions of a surface; each stage in a process of its own.

    python benchmarks/growth.py [--quick] [--rows N ...] [--actions K ...] [--work DIR] --json OUT

Rows: logs of 0.1 M, 1 M and 10 M exploration rows (--quick: 0.02, 0.1 and 0.4 M) over seven held-out days, and a production row for ten of
them, as Parquet on disk. One day is simulated (homefeed, 49 actions) and tiled: every tile has its own days, requests, sessions, users and
draws of weights, all else repeats. So there are more distinct users than a feed of that size has, and what the rows say is worth nothing;
what they cost is what rows cost. A value model is trained once on a day of 30,000 rows. The stages: `check` as `paretune check`; `score`,
reading and scoring all rows; `evaluate`, all that `paretune sweep` does between training and report: anchor, sweep (which scores again),
lifts with intervals and bands, picks; `train` on all rows, from disk. `--candidates N` also evaluates and trains `replay` on logs of up to
N rows that carry candidates, some 1.6 kB each.

Actions: 49, 343 and 2,401 (7 levels of two, three and four heads), both default models, trained on 2,000 rows each: CPU seconds of scoring
all actions of 50,000 requests (`score`, the model's own `values`) and of a decision (`decide`, the runtime's scorer of a bundle).

Figures: [peak_gib_10m] highest resident memory (VmHWM) over check, score and evaluate, at 10 M rows; [rows_exponent] slope of log CPU
seconds of these three together over log rows, by least squares; [actions_exponent] slope of log CPU seconds of `score` over log actions,
the larger of both models; the same per stage and model. CPU seconds are user and system time of all threads inside the stage, imports
left out, so that a busy machine does not change them much.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROWS, QUICK_ROWS = (100_000, 1_000_000, 10_000_000), (20_000, 100_000, 400_000)
ACTIONS = (49, 343, 2_401)
TRAINING_ROWS, FEW_ROWS, HELD_OUT_DAYS = 30_000, 2_000, 7
PER_PRODUCTION = 10  # exploration rows
BYTES_PER_ROW, BYTES_LISTED = 450, 2_100  # on disk, generously; without and with candidates
BYTES_SPILLED = 2_000  # that training puts on disk
STAGES = ("check", "score", "evaluate")


@dataclass(frozen=True, slots=True)
class Cost:
    """What a stage took."""

    stage: str
    rows: int  # exploration rows
    actions: int
    cpu_s: float
    wall_s: float
    peak_gib: float
    notes: dict[str, float]


# --- stages; each runs in its own process -----------------------------------------------------------------------------------------------


def world_of(actions: int) -> Any:
    """Return the feed whose surface tunes two, three or four heads at seven levels."""
    from paretune.config import Tune
    from paretune.sim.homefeed import Homefeed

    more = {"click": Tune(low=0.1, high=10.0), "long_view": Tune(low=0.05, high=2.0)}
    added = tuple(more)[: round(np.log(actions) / np.log(7)) - 2]

    class Wider(Homefeed):
        def config(self) -> Any:
            config = super().config()
            heads = [h.model_copy(update={"tune": more[h.name]}) if h.name in added else h for h in config.surface.heads]
            return config.model_copy(
                update={
                    "surface": config.surface.model_copy(update={"heads": heads}),
                    "evaluation": config.evaluation.model_copy(update={"train_days": 1, "hold_out_days": HELD_OUT_DAYS}),
                }
            )

    return Wider("demo")


def write(logs: Path, world: Any, *, rows: int, candidates: bool) -> dict[str, float]:
    """Write a training day, simulate another one, and tile it over the held-out days."""
    import polars as pl

    from paretune.logs.parquet import write_day
    from paretune.sim.traffic import EPOCH_DAY, write_logs

    share, block = PER_PRODUCTION / (1 + PER_PRODUCTION), logs.parent / "block"
    per_day = -(-rows // HELD_OUT_DAYS)
    for day, folder, n in ((0, logs, TRAINING_ROWS if rows > FEW_ROWS else FEW_ROWS), (1, block, min(per_day, 50_000))):
        write_logs(
            world, folder, days=range(day, day + 1), requests_per_day=int(n / share), explore_share=share, candidates=candidates, seed=day
        )
    served = ["served_ids", "served_events", "served_scores"]  # which nothing here reads
    frame = pl.concat([pl.read_parquet(file, hive_partitioning=False) for file in sorted(block.rglob("*.parquet"))]).drop(served)
    explored = frame.select((pl.col("reason") == "EXPLORE").cum_sum()).to_series()
    written = tile = 0
    for day in range(1, 1 + HELD_OUT_DAYS):
        left, part = per_day, 0
        while left > 0:
            size = min(len(frame), int((explored <= left).sum()))
            some = (
                frame.slice(0, size)
                .with_columns(**redrawn(frame[:size], world, tile))
                .with_columns(
                    request_id=pl.format("t{}-{}", pl.lit(tile), pl.col("request_id")),
                    user=pl.col("user").cast(pl.Int64) + 1_000_000 * (tile + 1),
                    session=pl.col("session") + 1_000_000_000 * (tile + 1),
                    ts=pl.col("ts").dt.offset_by(f"{day - 1}d"),
                )
            )
            write_day(logs, EPOCH_DAY + day, some.to_dict(), part=part)
            here = int(explored[size - 1])
            left, part, tile, written = left - here, part + 1, tile + 1, written + here
    shutil.rmtree(block)
    size_b = sum(file.stat().st_size for file in logs.rglob("*.parquet"))
    return {"explored": float(written), "gib_on_disk": size_b / 2**30}


def redrawn(frame: Any, world: Any, tile: int) -> dict[str, Any]:
    """Return other weights for the explored rows of a tile, drawn as a service would: a tiled draw's chance would be no chance any more."""
    import polars as pl

    from paretune.logs.parquet import binary

    weights = world.surface.actions.astype("<f4")
    drawn = np.random.default_rng([9, tile]).integers(1, len(weights), len(frame))
    action = np.where((frame["reason"] == "EXPLORE").to_numpy(), drawn, 0).astype(np.int32)
    return {"action": pl.Series(action), "weights": binary(weights)[action]}


def teach(logs: Path, config: Any, model: Path, kind: str) -> dict[str, float]:
    """Train the model that the stages use on the first day."""
    from paretune.logs.parquet import log_days
    from paretune.run import train_model

    train_model(logs, config, model, days=tuple(log_days(logs, config)[:1]), model=kind)
    return {}


def check(logs: Path, config: Any) -> dict[str, float]:
    """Check the whole log."""
    from paretune.logs.inspection import check_log

    found = check_log(logs, config)
    if not found.ok:
        raise SystemExit(f"the log is not fit: {found.broken('error')}")
    return {"users": float(found.users), "rows": float(found.rows)}


def score(logs: Path, config: Any, model: Path) -> dict[str, float]:
    """Read and score every exploration row of the held-out days."""
    from paretune.frontier.anchor import rows_scored
    from paretune.logs.parquet import scan_log
    from paretune.run import window
    from paretune.value.bundle import load_model

    fitted, actions = load_model(model), config.surface.build().actions
    rows, total, scoring = 0, 0.0, 0.0
    for batch in scan_log(logs, config, days=window(logs, config).hold_out, explored_only=True):
        for start in range(0, len(batch), rows_scored(len(actions))):
            part = batch.take(slice(start, start + rows_scored(len(actions))))
            before = time.process_time()
            total += float(fitted.values(part.state, actions).mean(dtype=np.float64)) * len(part)
            scoring += time.process_time() - before
        rows += len(batch)
    return {"mean_value": total / rows, "scoring_s": scoring}


def evaluate(logs: Path, config: Any, model: Path) -> dict[str, float]:
    """Do what `paretune sweep` does between training and report."""
    from paretune.frontier.assemble import assemble_front
    from paretune.frontier.curve import lift_curve
    from paretune.frontier.evaluate import sweep_sums
    from paretune.run import anchor_of, held_out_rows, window
    from paretune.seeds import stream
    from paretune.value.bundle import load_model

    days, fitted = window(logs, config), load_model(model)
    anchor = anchor_of(logs, config, days=days.train)
    sums = sweep_sums(fitted, held_out_rows(logs, config, days), config, anchor=anchor)
    swept = time.process_time()
    front = assemble_front(sums, config.surface.build(), config, rng=stream(0, "bootstrap"))
    if sums.curve is None:
        raise SystemExit("no curve of two objectives")
    curve = lift_curve(sums.curve, sums.total().produced)
    return {"policies": len(front.policies), "curve_points": len(curve.starts), "bands_s": time.process_time() - swept}


def train(logs: Path, config: Any, model: Path, kind: str) -> dict[str, float]:
    """Train on the held-out days, which have all the rows."""
    from paretune.run import train_model, window

    fitted: Any = train_model(logs, config, model, days=window(logs, config).hold_out, model=kind)
    return {"rows_taught": float(fitted.origin.rows), "loss": fitted.origin.losses["validation"]}


def actions(config: Any, model: Path, world: Any, *, rows: int) -> dict[str, float]:
    """Score all actions of simulated requests, by the model's own values and in decisions; microseconds of CPU, medians of rounds."""
    from paretune.frontier.anchor import rows_scored
    from paretune.serving.parts import model_parts
    from paretune.sim.memory import draw_log
    from paretune.value.bundle import load_model
    from serving_model import as_sent, scorer_of

    fitted, weights, log = load_model(model), config.surface.build().actions, draw_log(world, rows, seed=5, candidates=False)
    at_once = rows_scored(len(weights))

    def score_all() -> None:
        for start in range(0, rows, at_once):
            fitted.values(log.state.take(slice(start, start + at_once)), weights)

    scorer, request, wanted = scorer_of(model_parts(fitted), np.ones(2)), as_sent(log, 0), np.array([0.4, 0.6])  # type: ignore[arg-type]

    def decide() -> None:
        for _ in range(100):
            scorer.choose(scorer.read(request), wanted)

    return {"score_us": 1e6 * median_cpu(score_all) / rows, "decide_us": 1e6 * median_cpu(decide) / 100}


def median_cpu(run: Callable[[], None], rounds: int = 3) -> float:
    """Return the median CPU seconds of a call, after one that does not count."""
    spent = []
    for _ in range(1 + rounds):
        before = time.process_time()
        run()
        spent.append(time.process_time() - before)
    return float(np.median(spent[1:]))


def run_stage(name: str, work: Path, *, rows: int, n_actions: int, kind: str, listed: bool) -> Cost:
    """Run one stage in this process and return what it took."""
    import paretune.run  # noqa: F401  so that imports are not the stage's

    world = world_of(n_actions)
    config, logs, model = world.config(), work / "logs", work / f"model-{kind}"
    calls: dict[str, Callable[[], dict[str, float]]] = {
        "write": lambda: write(logs, world, rows=rows, candidates=listed),
        "teach": lambda: teach(logs, config, model, kind),
        "check": lambda: check(logs, config),
        "score": lambda: score(logs, config, model),
        "evaluate": lambda: evaluate(logs, config, model),
        "train": lambda: train(logs, config, work / "trained", kind),
        "actions": lambda: actions(config, model, world, rows=rows),
    }
    wall, cpu = time.perf_counter(), time.process_time()
    notes = calls[name]()
    return Cost(
        name, rows, n_actions, time.process_time() - cpu, time.perf_counter() - wall, peak_gib(), {"listed": float(listed), **notes}
    )


def peak_gib() -> float:
    """Return the highest resident memory of this process, from its first instruction on."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 2**20


# --- the run ----------------------------------------------------------------------------------------------------------------------------


def measured(name: str, work: Path, *, rows: int, n_actions: int = 49, kind: str = "smooth", listed: bool = False) -> Cost:
    """Run a stage in a fresh process and return what it took."""
    order = [
        sys.executable,
        __file__,
        "--stage",
        name,
        "--work",
        str(work),
        "--rows",
        str(rows),
        "--actions",
        str(n_actions),
        "--kind",
        kind,
    ]
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")  # that wait for each other spend CPU seconds on nothing
    done = subprocess.run(
        [*order, *(["--listed"] if listed else [])], check=True, stdout=subprocess.PIPE, text=True, env=os.environ | threads
    )
    cost = Cost(**json.loads(done.stdout.splitlines()[-1]))
    spent = f"{cost.cpu_s:9.2f} s CPU {cost.wall_s:9.2f} s {cost.peak_gib:6.2f} GiB"
    notes = " ".join(f"{key}={value:.4g}" for key, value in cost.notes.items() if key != "listed")
    print(f"{name:9} {kind:7} {rows:>11,} rows {n_actions:>6,} actions {spent}  {notes}", flush=True)
    return cost


def by_rows(work: Path, sizes: tuple[int, ...], *, kind: str, listed: bool) -> list[Cost]:
    """Return the costs of all stages at each size; a log is removed once it was used."""
    costs = []
    for rows in sizes:
        folder = work / f"rows-{rows}"
        needed, free = rows * (1 + 1 / PER_PRODUCTION) * (BYTES_LISTED if listed else BYTES_PER_ROW), shutil.disk_usage(work).free
        if needed + rows * BYTES_SPILLED > free:
            print(
                f"{rows:,} rows need some {needed / 2**30:.0f} GiB of disk and as much to train from; {free / 2**30:.0f} are free: left out"
            )
            continue
        try:
            common: dict[str, Any] = {"rows": rows, "kind": kind, "listed": listed}
            costs += [measured(name, folder, **common) for name in ("write", "teach", *STAGES, "train")]
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    return costs


def by_actions(work: Path, grids: tuple[int, ...], *, rows: int) -> list[Cost]:
    """Return the costs of scoring on each grid, by both default models."""
    costs = []
    for n_actions in grids:
        folder = work / f"actions-{n_actions}"
        try:
            measured("write", folder, rows=7, n_actions=n_actions, listed=True)
            for kind in ("smooth", "replay"):
                measured("teach", folder, rows=7, n_actions=n_actions, kind=kind, listed=True)
                costs.append(measured("actions", folder, rows=rows, n_actions=n_actions, kind=kind))
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    return costs


def exponent(sizes: list[float], costs: list[float]) -> float:
    """Return the slope of log cost over log size, by least squares."""
    return float(np.polyfit(np.log(sizes), np.log(costs), 1)[0]) if len(sizes) > 1 else float("nan")


def row_figures(costs: list[Cost]) -> dict[str, float]:
    """Return peaks and exponents over rows."""
    sizes = sorted({cost.rows for cost in costs})
    at = {(cost.stage, cost.rows): cost for cost in costs}
    result = {}
    for stage in (*STAGES, "train"):
        spent = [at[stage, rows].cpu_s for rows in sizes]
        result |= {f"rows_exponent_{stage}": exponent(sizes, spent), f"us_per_row_{stage}": 1e6 * spent[-1] / sizes[-1]}
        result |= {f"peak_gib_{stage}": at[stage, sizes[-1]].peak_gib}
    result["rows_exponent"] = exponent(sizes, [sum(at[stage, rows].cpu_s for stage in STAGES) for rows in sizes])
    result["peak_gib"] = max(at[stage, sizes[-1]].peak_gib for stage in STAGES)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rows", type=int, nargs="*")
    parser.add_argument("--actions", type=int, nargs="*")
    parser.add_argument("--candidates", type=int, default=0, help="rows of the largest log that carries candidates")
    parser.add_argument("--work", type=Path, default=Path("build/growth"), help="folder for the logs; each is removed after use")
    parser.add_argument("--stage", help=argparse.SUPPRESS)
    parser.add_argument("--kind", default="smooth", help=argparse.SUPPRESS)
    parser.add_argument("--listed", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.stage:
        cost = run_stage(given.stage, given.work, rows=given.rows[0], n_actions=given.actions[0], kind=given.kind, listed=given.listed)
        print(json.dumps(asdict(cost)))
        return
    sizes = tuple(given.rows if given.rows is not None else QUICK_ROWS if given.quick else ROWS)
    grids = tuple(given.actions if given.actions is not None else ACTIONS)
    given.work.mkdir(parents=True, exist_ok=True)
    figures: dict[str, float] = {}
    costs = by_rows(given.work, sizes, kind="smooth", listed=False)
    if costs:
        figures |= row_figures(costs)
        if max(cost.rows for cost in costs) == 10_000_000:
            figures["peak_gib_10m"] = figures["peak_gib"]
    if given.candidates:
        listed = by_rows(given.work, tuple(n for n in sizes if n <= given.candidates), kind="replay", listed=True)
        figures |= {f"listed_{name}": value for name, value in row_figures(listed).items()} if listed else {}
        costs += listed
    if grids:
        scored = by_actions(given.work, grids, rows=5_000 if given.quick else 50_000)
        for kind in ("smooth", "replay"):
            ours = scored[("smooth", "replay").index(kind) :: 2]
            for part in ("score", "decide"):
                figures[f"actions_exponent_{part}_{kind}"] = exponent([c.actions for c in ours], [c.notes[f"{part}_us"] for c in ours])
        figures["actions_exponent"] = max(figures["actions_exponent_score_smooth"], figures["actions_exponent_score_replay"])
        costs += scored
    for name, value in figures.items():
        print(f"{name:36} {value:10.4g}")
    if given.json is not None:
        given.json.write_text(json.dumps(figures | {"costs": [asdict(cost) for cost in costs]}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
