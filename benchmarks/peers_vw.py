"""Vowpal Wabbit as a contestant of `peers.py`: its contextual bandit over the 49 actions, on logged decisions with their propensities.

The learner is that of `--cb_explore_adf`; it is run as `--cb_adf`, the same reduction without the drawing of actions on top, because its
scores are wanted: no exploring is left to do, and one model for each objective then serves every trade-off. State and action are
namespaces `s` and `a`, crossed by `-q sa`; the action's features are its tuned weights in log coordinates, their squares and product. The
cost is the negative reward, the regression is `mtr` (importance-weighted) or `dr` (doubly robust); which, and the learning rate, is
searched on the squared error of the last days. A linear model of each objective holds that of each trade-off, so that none is fitted.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from paretune.records import Floats, Ints
from paretune.surface.grid import log_coordinates, polynomial_basis
from peers_lesson import Contestant, Learned, Lesson, squared_errors, swept

RATES = (0.5, 0.1, 0.02)  # of which the first is its default
KINDS = ("mtr", "dr")
SEARCH_ROWS = 40_000  # at most; dr scores all 49 actions of every row


@dataclass(frozen=True, slots=True)
class Settings:
    """What is searched."""

    kind: str
    rate: float

    def __str__(self) -> str:
        return f"--cb_type {self.kind} -l {self.rate:g}"


def search(lesson: Lesson) -> Settings:
    """Return the settings with the least squared error on the last days: the rate by mtr, then the kind at that rate."""
    early, late = np.flatnonzero(~lesson.late)[-SEARCH_ROWS:], np.flatnonzero(lesson.late)
    with tempfile.TemporaryDirectory() as folder:
        texts = Texts(lesson, Path(folder))
        judged = texts.questions(texts.states(late))
        files = texts.lessons(early)

        def loss(settings: Settings) -> float:
            values = texts.values(files, judged, settings)
            logged = values[np.arange(len(late)), lesson.log.action[late] - 1]
            return float(squared_errors(logged, lesson.log, late).sum())

        rate = min(RATES, key=lambda rate: loss(Settings(KINDS[0], rate)))
        return min((Settings(kind, rate) for kind in KINDS), key=loss)


def learn(lesson: Lesson, settings: Settings) -> Learned:
    """Return the front of the model with these settings, fitted on all exploration rows."""
    with tempfile.TemporaryDirectory() as folder:
        texts = Texts(lesson, Path(folder))
        files = texts.lessons(np.arange(len(lesson.log)))
        values = texts.values(files, texts.questions(_written(lesson.encoder.wide(lesson.judged))), settings)
    believed = np.concatenate([values[:, :1], values], axis=1)  # production stands in its place and is not chosen
    return Learned(actions=swept(believed, lesson.level), chosen=str(settings))


class Texts:
    """A lesson in VW's text format, in files of a folder."""

    def __init__(self, lesson: Lesson, folder: Path) -> None:
        self.lesson, self.folder = lesson, folder
        surface = lesson.world.surface
        phi = polynomial_basis(log_coordinates(surface, surface.actions), 2)[1:]
        self.actions = ["|a " + " ".join(f"{i}:{value:.4g}" for i, value in enumerate(row)) for row in phi]
        self.unlabelled = "\n".join(self.actions) + "\n\n"

    def states(self, rows: Ints) -> list[str]:
        """Return a shared line for each of the rows."""
        return _written(self.lesson.encoder.wide(self.lesson.log.state.take(rows)))

    def lessons(self, rows: Ints) -> tuple[Path, ...]:
        """Return files of decisions with cost and propensity, one for each objective."""
        states, actions = self.states(rows), self.lesson.log.action[rows].tolist()
        files = []
        for j in range(self.lesson.log.rewards.shape[1]):
            rewards = self.lesson.log.rewards[rows, j].tolist()
            blocks = {key: self._labelled(*key) for key in set(zip(actions, rewards, strict=True))}
            lines = (state + blocks[key] for state, key in zip(states, zip(actions, rewards, strict=True), strict=True))
            files.append(self._file(f"objective-{j}.vw", lines))
        return tuple(files)

    def questions(self, states: list[str]) -> Path:
        """Return a file of requests without labels."""
        return self._file("questions.vw", (state + self.unlabelled for state in states))

    def values(self, lessons: tuple[Path, ...], questions: Path, settings: Settings) -> Floats:
        """Return (n, 49, M) values of the grid's actions for the requests asked about."""
        from vowpalwabbit import Workspace

        model, answers = self.folder / "model", self.folder / "answers"
        values = []
        for lesson in lessons:
            Workspace(f"--cb_adf --rank_all {settings} -q sa --data {lesson} -f {model} --random_seed {self.lesson.seed} --quiet").finish()
            Workspace(f"-t -i {model} --data {questions} -p {answers} --quiet").finish()
            values.append(-_costs(answers.read_text(), len(self.actions)))
        return np.stack(values, axis=2)

    def _labelled(self, action: int, reward: float) -> str:
        lines = list(self.actions)
        lines[action - 1] = f"0:{-reward:g}:{1 / len(lines):.8f} {lines[action - 1]}"
        return "\n".join(lines) + "\n\n"

    def _file(self, name: str, lines: Iterable[str]) -> Path:
        path = self.folder / name
        with path.open("w", encoding="ascii") as file:
            file.writelines(lines)
        return path


def _written(wide: Floats) -> list[str]:
    names = [f" {i}:" for i in range(wide.shape[1])]
    return [
        "shared |s" + "".join([name + format(value, ".4g") for name, value in zip(names, row, strict=True) if value]) + "\n"
        for row in _rows(wide)
    ]


def _rows(wide: Floats) -> Iterator[list[float]]:
    for row in wide:
        yield row.tolist()


def _costs(text: str, actions: int) -> Floats:
    """Return (n, actions) costs from lines of `action:cost`, cheapest first, parted by commas."""
    pairs = np.array(text.replace(":", " ").replace(",", " ").split(), dtype=np.float32).reshape(-1, actions, 2)
    costs = np.empty(pairs.shape[:2], np.float32)
    np.put_along_axis(costs, pairs[:, :, 0].astype(np.int64), pairs[:, :, 1], axis=1)
    return costs


VOWPAL_WABBIT = Contestant("exploration rows: state, action, propensity", search, learn)
