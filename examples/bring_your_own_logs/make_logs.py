"""Write an exploration log from plain arrays: a shop's search page with three tuned heads, two objectives and no sequences."""

import sys
from itertools import product
from pathlib import Path

import numpy as np
import polars as pl

STATIC = {"purchase": 40.0, "add_to_cart": 12.0, "margin": 5.0, "click": 1.0}  # the weights in production, in score order
LEVELS = [np.linspace(10, 80, 4), np.linspace(3, 24, 4), np.linspace(1, 10, 4)]  # of the first three: as in weights.yaml
GRID = np.array([[*levels, STATIC["click"]] for levels in product(*LEVELS)])


def day_of_traffic(rng: np.random.Generator, rows: int) -> pl.DataFrame:
    user = rng.integers(0, 20_000, rows)
    taste = np.random.default_rng(7).normal(size=(20_000, 3))[user]  # hidden: what a user buys for
    explored = rng.random(rows) < 0.7
    weights = np.where(explored[:, None], GRID[rng.integers(0, len(GRID), rows)], list(STATIC.values()))
    shift = np.log(weights / list(STATIC.values()))[:, :3]  # how far from production
    dilution = 0.1 * (shift**2).sum(axis=1)
    buys = -0.6 + shift @ [0.2, -0.1, -0.1] + (0.4 + 0.8 * shift[:, 0] - 0.3 * shift[:, 2]) * taste[:, 0] - dilution
    carts = 0.2 + shift @ [-0.1, 0.2, -0.1] + (0.4 + 0.8 * shift[:, 1]) * taste[:, 1] - dilution
    return pl.DataFrame(
        {
            "impression_id": rng.integers(0, 2**62, rows),
            "user_id": user,
            "segment": np.where(taste[:, 2] > 0, "member", "guest"),
            "served_weights": weights,
            "propensity": np.where(explored, 1 / len(GRID), 1.0),
            "reason": np.where(explored, "EXPLORE", "STATIC"),
            "purchase_count": rng.poisson(np.log1p(np.exp(buys))),
            "add_to_cart_count": rng.poisson(np.log1p(np.exp(carts))),
            "basket_value": (taste[:, 0] + rng.normal(scale=0.3, size=rows)).astype(np.float32),
            "country": np.where(taste[:, 1] > 0, "NL", "PT"),
            "user_vector": (np.tile(taste, 2) + rng.normal(scale=0.5, size=(rows, 6))).astype(np.float32),
        }
    )


if __name__ == "__main__":
    folder, rows = Path(sys.argv[1] if len(sys.argv) > 1 else "logs"), int(sys.argv[2]) if len(sys.argv) > 2 else 4000
    for day in range(21):
        target = folder / f"day=2026-03-{day + 1:02d}"
        target.mkdir(parents=True, exist_ok=True)
        day_of_traffic(np.random.default_rng(day), rows).write_parquet(target / "part-0.parquet")
