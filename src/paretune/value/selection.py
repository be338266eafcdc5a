"""Choosing between value models by their held-out R-loss: how well predicted effects explain what the logged actions did.

    L(tau) = mean over rows of sum_j ( r_j - m_j(s) - [tau_j(s, a) - mean over the grid of tau_j(s, a')] )^2

in relative units: rewards and effects are divided by production's mean reward. tau is the predicted change over production, m(s) the
expected reward of a request under exploration, fitted by ridge on other users. An effect centred over the grid is uncorrelated with any
error of m, so the expected loss is lowest for the true effects, whatever m is; how well a model predicts what requests are worth, most of
an ordinary loss, does not count. Rows of a design that is not uniform are weighted to a uniform one. Source: Nie and Wager (2021), for many
actions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from paretune.config import Config
from paretune.errors import DataError
from paretune.logs.hashing import salted
from paretune.ports import ALONE, Team, ValueModel
from paretune.records import PRODUCTION, Bools, Floats, Ints, Log
from paretune.value.features import Encoder
from paretune.value.ridge import Moments

HELD_OUT = 0.25  # share of the users that judge; more than early stopping needs, since effects are small beside the noise of rewards
PENALTY = 1e-3  # of m(s), per row, for standardised features
ROWS_SCORED = 16_384  # at a time; bounds the (n, K, M) values


@dataclass(frozen=True, slots=True)
class RLoss:
    """How well one model predicts effects; smaller is better."""

    name: str
    loss: float  # L, in relative units squared, summed over objectives
    difference: float  # L minus that of a model without any effect
    std_error: float  # of the difference, clustered by user

    @property
    def helps(self) -> bool:
        """Whether the model predicts effects better than saying there are none."""
        return self.difference < 0


@dataclass(frozen=True, slots=True)
class Expectation:
    """m(s): the expected reward of a request under exploration."""

    encoder: Encoder
    coefficients: Floats  # (1 + D, M), the constant first

    def predict(self, log: Log) -> Floats:
        """Return (n, M) expected rewards of a log's requests."""
        return self.encoder.wide(log.state) @ self.coefficients[1:] + self.coefficients[0]


def judging_users(user: Ints, share: float = HELD_OUT) -> Bools:
    """Return (n,) mask of the rows of the users that judge, the same on every machine; independent of those that stop training early.

    Args:
        user: (n,) uint64 hashes as in `Log.user`.
        share: in (0, 1).

    Raises:
        DataError: the rows fall all on one side.
    """
    mask = salted(user, "selection") < np.uint64(int(share * 2**64))
    if mask.all() or not mask.any():
        raise DataError(
            f"{len(np.unique(user))} users are too few to hold some out", hint="read more of the log, or name one kind of model"
        )
    return mask


def uniform_weights(log: Log, actions: int) -> Floats:
    """Return (n,) weights that turn exploration rows into rows of a uniform design over the grid; ones where it is uniform.

    Args:
        log: exploration rows.
        actions: K, production included.
    """
    return 1.0 / ((actions - 1) * log.propensity)


def fit_expectation(log: Log, config: Config, *, team: Team = ALONE) -> Expectation:
    """Return m(s) of the exploration rows of a log, or of a team's logs: ridge, every row weighted to a uniform design.

    Raises:
        DataError: no row, or a feature that is absent or infinite.
    """
    encoder = Encoder.fit(log.state, config.features, team=team)
    weight = uniform_weights(log, len(config.surface.build()))
    width, objectives = 1 + len(encoder.groups), log.rewards.shape[1]
    total = Moments(np.zeros((width, width)), np.zeros((width, objectives)), np.zeros(objectives), 0)
    for start in range(0, len(log), ROWS_SCORED):
        part = slice(start, start + ROWS_SCORED)
        x = np.column_stack([np.ones(len(log.action[part])), encoder.wide(log.state.take(part))])
        weighted, rewards = x * weight[part, None], log.rewards[part].astype(np.float64)
        square = (weight[part, None] * rewards**2).sum(axis=0)
        total = total + Moments(x.T @ weighted, weighted.T @ rewards, square, len(x))
    return Expectation(encoder, total.over(team).solve(np.array([1e-9, *[PENALTY] * (width - 1)])))


def row_losses(rewards: Floats, expected: Floats, effects: Floats, action: Ints, *, scale: Floats) -> Floats:
    """Return (n,) squared residuals, summed over objectives.

    Args:
        rewards: (n, M).
        expected: m(s) (n, M).
        effects: tau (n, K, M), production first.
        action: (n,) logged grid actions, in [1, K).
        scale: (M,) one over production's mean reward.
    """
    served = np.take_along_axis(effects, action[:, None, None].astype(np.int64), axis=1)[:, 0]
    centred = served - effects[:, PRODUCTION + 1 :].mean(axis=1)
    return np.square((rewards - expected - centred) * scale).sum(axis=1)


def clustered_mean(per_row: Floats, weight: Floats, user: Ints, *, team: Team = ALONE) -> tuple[float, float]:
    """Return a weighted mean and its standard error, rows of one user taken together, those of all members of a team.

    Raises:
        DataError: fewer than two users.
    """
    mine, index = np.unique(user, return_inverse=True)
    users, index_of = np.unique(np.concatenate(team.each(mine)), return_inverse=True)
    if len(users) < 2:
        raise DataError(f"rows of {len(users)} user(s) cannot judge a model", hint="hold out more users")
    total, rows = team.total(np.array([(weight * per_row).sum(), weight.sum()]))
    mean = float(total / rows)
    parts = team.each(np.bincount(index, weights=weight * (per_row - mean), minlength=len(mine)))
    influence = np.bincount(index_of, weights=np.concatenate(parts)) / rows
    return mean, float(np.sqrt(len(users) / (len(users) - 1) * np.square(influence).sum()))


def r_losses(
    models: Mapping[str, ValueModel], held_out: Log, expectation: Expectation, config: Config, *, scale: Floats, team: Team = ALONE
) -> list[RLoss]:
    """Return the held-out R-loss of each model, best first.

    Args:
        models: by name; none saw the held-out rows.
        held_out: exploration rows; of a team, each member's own.
        expectation: m(s), fitted on other rows.
        config: surface and objectives.
        scale: (M,) one over production's mean reward.
        team: whose members each hold the same models.

    Raises:
        DataError: no row, or rows of one user only.
    """
    rows = held_out.exploration()
    if not team.total(np.array([len(rows)]))[0]:
        raise DataError("no held-out exploration rows to judge models on", hint="read more of the log")
    actions = config.surface.build().actions
    weight = uniform_weights(rows, len(actions))
    losses = {name: np.empty(len(rows)) for name in ("", *models)}
    for start in range(0, len(rows), ROWS_SCORED):
        at = slice(start, start + ROWS_SCORED)
        part = rows.take(at)
        expected = expectation.predict(part)
        losses[""][at] = np.square((part.rewards - expected) * scale).sum(axis=1)
        for name, model in models.items():
            values = model.values(part.state, actions)
            effects = values - values[:, PRODUCTION, None]
            losses[name][at] = row_losses(part.rewards, expected, effects, part.action, scale=scale)
    judged = []
    for name in models:
        difference, error = clustered_mean(losses[name] - losses[""], weight, rows.user, team=team)
        total, weighed = team.total(np.array([(weight * losses[name]).sum(), weight.sum()]))
        judged.append(RLoss(name, float(total / weighed), difference, error))
    return sorted(judged, key=lambda judgement: judgement.loss)


def relative_scale(log: Log, *, team: Team = ALONE) -> Floats:
    """Return (M,) one over the mean reward of production rows, or of all rows where there are none, over all members of a team.

    Raises:
        DataError: an objective earned nothing.
    """
    production = log.production()
    rows = production if team.total(np.array([len(production)]))[0] else log
    mean = team.total(rows.rewards.sum(axis=0, dtype=np.float64)) / team.total(np.array([len(rows)]))
    if not (mean > 0).all():
        raise DataError(f"mean rewards are {mean.tolist()}: effects relative to zero have no meaning", hint="leave such objectives out")
    return 1.0 / mean


_NAMES = ("R-loss of", "R-loss against no effect of", "std error of")


def as_losses(judged: list[RLoss]) -> dict[str, float]:
    """Return judgements as named numbers that an origin keeps."""
    return {
        f"{what} {one.name}": value for one in judged for what, value in zip(_NAMES, (one.loss, one.difference, one.std_error), strict=True)
    }


def from_losses(losses: Mapping[str, float]) -> list[RLoss]:
    """Return the judgements among an origin's losses, best first; none where the kind was given."""
    names = [key.removeprefix(f"{_NAMES[0]} ") for key in losses if key.startswith(f"{_NAMES[0]} ")]
    return sorted((RLoss(name, *(losses[f"{what} {name}"] for what in _NAMES)) for name in names), key=lambda judgement: judgement.loss)
