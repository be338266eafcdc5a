"""Share of the attainable hypervolume that each value model reaches, by training rows.

    python benchmarks/learners.py [--quick] --json OUT

Every number is the true value of the learned policies in a simulated world whose truth the learner cannot see, on world seeds used nowhere
else in this repository. Rows are uniform exploration rows over 14 days, with candidates up to 200 k rows; the log also holds four
production rows for each of them (800 k at most), from which `smooth` and `ridge` learn what a request is worth; the paper's method does not
use them. The attainable front is that of a network fitted on noise-free truths of other requests (`attainable.py`). The paper's network
searches three learning rates and up to four epochs on held-out loss at up to 200 k rows, and keeps the best rate at 1 M, with up to two
epochs. Times are CPU seconds of one core in the same process, searches included.
"""

from __future__ import annotations

import os

for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS"):
    os.environ[name] = "1"  # one core per task, so that CPU seconds mean the same for every model

import argparse
import json
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

SEEDS = (1101, 1102, 1103, 1104, 1105)
PRODUCTION = 800_000  # rows at most, four for each exploration row
KINDS = ("replay", "smooth", "ridge", "paper")
RATES = (3e-4, 1e-3, 3e-3)
# What would double the run for little: the paper's network is at zero well above 50 k rows; drawing candidates for 1 M rows takes minutes.
LEFT_OUT = {50_000: ("paper",), 1_000_000: ("replay", "ridge")}
Row = dict[str, Any]


def run_task(setting: str, seed: int, sizes: tuple[int, ...], kinds: tuple[str, ...], judged: int, fitted: int) -> list[Row]:
    """Return the rows of one world: shares of the attainable hypervolume and CPU seconds, per model and size."""
    import torch
    from attainable import attainable_front, best_at_no_loss, hypervolume, model_front, requests_with_truth, static_front

    from paretune.records import Log
    from paretune.sim import open_world
    from paretune.sim.memory import draw_log
    from paretune.value.paper_net import fit_paper
    from paretune.value.train import fit

    torch.set_num_threads(1)
    world = open_world("homefeed", setting=setting, seed=seed)
    config = world.config()
    state, truth = requests_with_truth(world, judged, seed=seed, purpose="judged")
    front = attainable_front(world, n=fitted, seed=seed, state=state, truth=truth)
    attainable = hypervolume(front)

    def row(kind: str, n: int, points: Any, seconds: float) -> Row:
        first, second = best_at_no_loss(points)
        return {
            "setting": setting, "seed": seed, "model": kind, "rows": n, "share": float(hypervolume(points) / attainable),
            "save_at_no_loss": first, "p2p_at_no_loss": second, "cpu_s": seconds,
        }  # fmt: skip

    rows = [row("attainable", fitted, front, 0.0), row("static", 0, static_front(truth), 0.0)]
    middle = max([n for n in sizes if n <= 200_000])
    log = draw_log(world, middle, seed=seed)
    rest = draw_log(world, max(sizes) - middle, seed=seed + 1_000_000, candidates=False) if max(sizes) > middle else None
    production = draw_log(world, min(PRODUCTION, 4 * max(sizes)), seed=seed + 2_000_000, candidates=False, explore_share=0.0)
    paper = config.model_copy(update={"training": config.training.model_copy(update={"max_epochs": 4})})
    best_rate = RATES[1]
    for n in sizes:
        part = log.take(slice(0, n)) if n <= len(log) or rest is None else Log.concat([replace(log, candidates=None), rest])
        for kind in kinds:
            if kind in LEFT_OUT.get(n, ()) or (kind == "replay" and part.candidates is None):
                continue
            started = time.process_time()
            if kind == "paper":
                rates = RATES if n <= 200_000 else (best_rate,)
                model: Any = fit_paper(part, paper if n <= 200_000 else _epochs(paper, 2), seed=0, learning_rates=rates)
                best_rate = model.origin.losses["learning_rate"]
            else:
                beside = production.take(slice(0, min(PRODUCTION, 4 * n)))
                whole = part if kind == "replay" else Log.concat([replace(part, candidates=None), beside])
                model = fit(whole, config, model=kind, seed=0)
            seconds = time.process_time() - started
            rows.append(row(kind, n, model_front(model, world, state=state, truth=truth), seconds))
            print(json.dumps(rows[-1]), flush=True)
    return rows


def _epochs(config: Any, epochs: int) -> Any:
    return config.model_copy(update={"training": config.training.model_copy(update={"max_epochs": epochs})})


def figures(rows: list[Row], sizes: tuple[int, ...]) -> dict[str, float]:
    """Return the flat figures that the issue names; sizes are (small, middle, large)."""
    labels = dict(zip(sizes, ("50k", "200k", "1m"), strict=True))

    def mean(model: str, n: int, key: str = "share", setting: str = "paper") -> float:
        found = [r[key] for r in rows if (r["model"], r["rows"], r["setting"]) == (model, n, setting)]
        return float(np.mean(found)) if found else float("nan")

    result = {f"hv_{kind}_{labels[n]}": mean(kind, n) for kind in KINDS for n in sizes}
    result["hv_static"] = mean("static", 0)
    middle = sizes[1]
    for kind in ("replay", "smooth"):
        result[f"{kind}_over_paper_200k"] = mean(kind, middle) / max(mean("paper", middle), 1e-9)
        result[f"hv_{kind}_200k_worst_seed"] = min(
            (r["share"] for r in rows if (r["model"], r["rows"], r["setting"]) == (kind, middle, "paper")), default=np.nan
        )
        result[f"hv_{kind}_200k_demo"] = mean(kind, middle, setting="demo")
        result[f"train_speedup_{kind}"] = mean("paper", middle, "cpu_s") / mean(kind, middle, "cpu_s")
    result["train_speedup"] = min(result["train_speedup_replay"], result["train_speedup_smooth"])
    return {name: round(value, 4) for name, value in result.items() if np.isfinite(value)}


def table(rows: list[Row]) -> str:
    """Return the table: mean share over seeds, each seed's share, lifts at no loss of the other objective, CPU seconds."""
    lines = [f"{'setting':8s} {'model':11s} {'rows':>9s} {'share':>6s}  {'save':>7s} {'p2p':>7s} {'cpu s':>7s}  shares by seed"]
    for key in sorted({(r["setting"], r["rows"], r["model"]) for r in rows}):
        of = sorted((r for r in rows if (r["setting"], r["rows"], r["model"]) == key), key=lambda r: r["seed"])
        mean = {name: np.mean([r[name] for r in of]) for name in ("share", "save_at_no_loss", "p2p_at_no_loss", "cpu_s")}
        seeds = " ".join(f"{r['share']:.2f}" for r in of)
        lines.append(
            f"{key[0]:8s} {key[2]:11s} {key[1]:9,d} {mean['share']:6.2f}  {mean['save_at_no_loss']:+7.2%} {mean['p2p_at_no_loss']:+7.2%}"
            f" {mean['cpu_s']:7.1f}  {seeds}"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one seed, 20 k / 50 k / 100 k rows")
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--rows", type=Path, help="also write every row, as JSON lines; rows already there are kept and not run again")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--largest", type=int, default=1_000_000, help="leave out sizes above this many rows")
    args = parser.parse_args()
    sizes = (20_000, 50_000, 100_000) if args.quick else (50_000, 200_000, 1_000_000)
    judged, fitted = 10_000 if args.quick else 30_000, 80_000
    kept = tuple(n for n in sizes if n <= args.largest)
    tasks = [("paper", seed, kept, KINDS) for seed in (SEEDS[:1] if args.quick else SEEDS)]
    tasks += [("demo", seed, sizes[1:2], KINDS[:3]) for seed in (SEEDS[:1] if args.quick else SEEDS)]
    rows: list[Row] = []
    if args.rows and args.rows.exists():
        rows = [json.loads(line) for line in args.rows.read_text().splitlines()]
    have = {(r["setting"], r["seed"]) for r in rows}
    with ProcessPoolExecutor(args.jobs, mp_context=get_context("spawn")) as pool:
        waiting = [pool.submit(run_task, *task, judged, fitted) for task in tasks if task[:2] not in have]
        for done in as_completed(waiting):
            rows += done.result()
            if args.rows:
                args.rows.write_text("".join(json.dumps(row) + "\n" for row in rows))
    print(table(rows))
    result = figures(rows, sizes)
    args.json.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
