"""What `peers.py` says in figures and tables, from its rows: one for each world, seed and contestant, one for each world and estimator."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

Row = dict[str, Any]
OURS = {"replay": "paretune `replay`", "smooth": "paretune `smooth`"}
SCALES = ("attainable", "best static weights, in hindsight")  # no contestants: what is at most to be had, and what static weights could
SMALL = 1e-3  # of a share; nothing is divided by less


def slug(contestant: str) -> str:
    """Return a contestant's name as figures carry it."""
    for kind, name in OURS.items():
        if contestant == name:
            return kind
    return contestant.replace("the paper's network", "paper").replace(",", "").replace(" ", "_").lower()


def means(rows: list[Row], world: str, key: str) -> dict[str, float]:
    """Return the mean over seeds of a column, for each contestant of a world."""
    found: dict[str, list[float]] = {}
    for row in rows:
        if row["world"] == world and key in row:
            found.setdefault(row["contestant"], []).append(row[key])
    return {name: float(np.mean(values)) for name, values in found.items()}


def peers_of(rows: list[Row], world: str) -> list[str]:
    """Return the contestants of a world that are not ours."""
    names = dict.fromkeys(row["contestant"] for row in rows if row["world"] == world)
    return [name for name in names if name not in SCALES and name not in OURS.values()]


def seeds_ahead(rows: list[Row], world: str, ours: str, peers: list[str]) -> tuple[int, int]:
    """Return in how many seeds ours has a larger share than every peer named, and of how many."""
    share = {(row["contestant"], row["seed"]): row["share"] for row in rows if row["world"] == world}
    seeds = sorted({seed for name, seed in share if name == ours})
    return sum(all(share[ours, seed] > share[name, seed] for name in peers) for seed in seeds), len(seeds)


def figures(rows: list[Row], estimators: list[Row]) -> dict[str, float]:
    """Return the flat figures: shares, ours over the best peer's, seeds ahead of every peer, CPU time of peers over ours, gains on obp."""
    result: dict[str, float] = {}
    for world in dict.fromkeys(row["world"] for row in rows):
        share, cpu, fit = (means(rows, world, key) for key in ("share", "cpu_s", "last_fit_cpu_s"))
        result |= {f"{world}_share_{slug(name)}": value for name, value in share.items()}
        peers = peers_of(rows, world)
        for kind, ours in OURS.items():
            result[f"{world}_{kind}_over_best_peer"] = share[ours] / max(*(share[name] for name in peers), SMALL)
            ahead, of = seeds_ahead(rows, world, ours, peers)
            result[f"{world}_{kind}_seeds_ahead_of_all"] = ahead / of
            for name in peers:
                result[f"{world}_{kind}_speedup_{slug(name)}"] = cpu[name] / cpu[ours]
                result[f"{world}_{kind}_speedup_last_fit_{slug(name)}"] = fit[name] / cpu[ours]
    for world in dict.fromkeys(row["world"] for row in estimators):
        ours, *peers = sorted((row for row in estimators if row["world"] == world), key=lambda row: row["estimator"].startswith("obp"))
        result[f"{world}_mse_gain_over_best_obp"] = min(gain(ours, peer) for peer in peers)
        timed = [peer for peer in peers if "cpu_s" in peer]
        result[f"{world}_sweep_speedup_over_obp"] = min(peer["cpu_s"] for peer in timed) / ours["cpu_s"]
        result[f"{world}_sweep_memory_under_obp"] = min(peer["extra_mb"] for peer in timed) / ours["extra_mb"]
    return {name: round(value, 4) for name, value in result.items()}


def gain(ours: Row, peer: Row) -> float:
    """Return how many times larger a peer's mean squared error is, geometric mean over objectives."""
    return float(np.exp(np.log(np.array(peer["mse"]) / np.array(ours["mse"])).mean()))


def tables(rows: list[Row], estimators: list[Row], skipped: list[str]) -> Iterator[dict[str, Any]]:
    """Yield the page's tables: one of each world, one of evaluation, one of what was skipped and why."""
    for world in dict.fromkeys(row["world"] for row in rows):
        yield _world_table(rows, world)
    if estimators:
        yield _evaluation_table(estimators)
    if skipped:
        yield {"title": "Skipped", "head": ["what", "why"], "rows": [each.split(": ", 1) for each in skipped]}


def _world_table(rows: list[Row], world: str) -> dict[str, Any]:
    of = [row for row in rows if row["world"] == world]
    share, cpu = means(rows, world, "share"), means(rows, world, "cpu_s")
    first, second = of[0]["objectives"]
    lines = []
    for name in sorted(share, key=lambda name: (name in SCALES, -share[name])):
        mine = [row for row in of if row["contestant"] == name]
        each = " ".join(f"{row['share']:.2f}" for row in sorted(mine, key=lambda row: row["seed"]))
        lifts = [np.mean([row[key] for row in mine]) for key in ("first_at_no_loss_pct", "second_at_no_loss_pct")]
        lines.append(
            [name, mine[0].get("reads", ""), f"{share[name]:.2f} ({each})", *(f"{lift:+.1f} %" for lift in lifts), *_spent(mine, cpu)]
        )
        lines[-1].append(_behind(rows, world, name))
    head = [
        "",
        "reads",
        "share of the attainable hypervolume (by seed)",
        f"{first} at no loss",
        f"{second} at no loss",
        "CPU s, search and all",
    ]
    head += ["CPU s, last fit", "wall s", "CPU over `replay`'s / `smooth`'s", "behind paretune"]
    return {"title": f"{world}: {of[0]['rows']:,} exploration rows, {share_words(of)}", "head": head, "rows": lines}


def share_words(rows: list[Row]) -> str:
    """Return how many seeds, and how large what can be attained is."""
    attainable = [row["hypervolume"] for row in rows if row["contestant"] == "attainable"]
    return f"{len(attainable)} seeds, attainable {np.mean(attainable):.1f} %²"


def _spent(mine: list[Row], cpu: dict[str, float]) -> list[str]:
    if "cpu_s" not in mine[0]:
        return ["–"] * 4
    spent = [float(np.mean([row[key] for row in mine])) for key in ("cpu_s", "last_fit_cpu_s", "wall_s")]
    return [
        *(f"{value:.0f}" if value >= 10 else f"{value:.1f}" for value in spent),
        " / ".join(f"{spent[0] / cpu[name]:.1f}" for name in OURS.values()),
    ]


def _behind(rows: list[Row], world: str, name: str) -> str:
    """Say in how many seeds a peer is behind each of ours; where it is ahead on average, say that first."""
    if name in SCALES or name in OURS.values():
        return ""
    share = means(rows, world, "share")
    told = []
    for kind, ours in OURS.items():
        ahead, of = seeds_ahead(rows, world, ours, [name])
        told.append(f"{'**no**, ' if share[name] >= share[ours] else ''}`{kind}` in {ahead} of {of}")
    return "; ".join(told)


def _evaluation_table(estimators: list[Row]) -> dict[str, Any]:
    lines = []
    for world in dict.fromkeys(row["world"] for row in estimators):
        of = [row for row in estimators if row["world"] == world]
        base = next(row for row in of if row["estimator"] == "obp SNIPW")
        for row in of:
            spent = [f"{row[key]:,.0f}" if key in row else "–" for key in ("cpu_s", "wall_s", "extra_mb")]
            lines.append([world, row["estimator"], f"{gain(row, base):.2f}", *spent])
    head = ["world", "estimator", "gain in squared error of the lift over obp's SNIPW", "CPU s of a sweep", "wall s", "MB above the data"]
    return {
        "title": "Evaluation beside obp 0.4.1: the same logs of 100,000 exploration rows; a sweep of 25 policies with intervals",
        "head": head,
        "rows": lines,
    }
