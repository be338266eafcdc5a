"""The folder that a join writes, where it lies on object storage: worked on by way of a copy on disk.

An edge: files, object storage. Buckets have no locks and rename nothing, but write an object on condition that it is still the one that
was seen. The rule: a run's files are staged under a name of their own, the run becomes true when `_join/current.json`, which names them, is
written in place of the one that the run began with, and they are then copied to where readers look. Of two joins that began alike one
becomes true, and nothing of the other happened; whoever comes after a kill finishes a run that became true. What is this write here is the
renaming of `commit.json` in ledger.py.
"""

from __future__ import annotations

import json
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paretune.errors import ConflictError, LogError, UnreachableError
from paretune.storage.objects import Item, copied, listed, looked_up, read_bytes, read_seen, removed, write, write_over
from paretune.storage.place import Place, Where

_JOIN, _CURRENT = "_join", "current.json"
_AGAIN = "run it again: it goes on from what the other left"


@dataclass(frozen=True, slots=True)
class _Run:
    """What `current.json` says, and the object that says it."""

    told: dict[str, Any]  # as the ledger on disk knows it: run, lists, read
    token: str  # of the run's staged files and state; empty = copied here from a disk
    moves: tuple[str, ...]  # staged files that readers may not see yet, by their place in the log
    item: Item

    @property
    def number(self) -> int:
        """Of the run, from 1."""
        return int(self.told["run"])

    @property
    def state(self) -> str:
        """The folder of what the run held back."""
        return _state(self.number, self.token)


@contextmanager
def checked_out(output: Where) -> Iterator[Path]:
    """Give a folder on disk that is the log's as far as a join needs it, and make the run that was committed there true at its place.

    A path is given as it is.

    Raises:
        ConflictError: another join was faster; nothing of this one happened.
        UnreachableError: the storage does not answer; the message says whether the run happened.
        LogError: the state at the place cannot be read.
    """
    if isinstance(output, Path):
        yield output
        return
    with tempfile.TemporaryDirectory(prefix="paretune-") as temporary:
        folder = Path(temporary)
        before = _fetch(output, folder)
        yield folder
        told = json.loads((folder / _JOIN / _CURRENT).read_text(encoding="utf-8"))
        if before is None or told["run"] != before.number:
            _finish(output, _commit(output, folder, told, before))


def _fetch(output: Place, folder: Path) -> _Run | None:
    run = _current(output)
    if run is None:
        return None
    if run.moves:
        _finish(output, run)
        run = _current(output) or run
    local = folder / _JOIN / f"state-{run.number}"
    state = output / _JOIN / run.state
    try:
        for item in listed(state):
            path = local.joinpath(*item.place.below(state))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(read_bytes(item.place))
    except LogError:  # it was there when it was listed
        raise ConflictError(f"another join is writing to {output}", hint=_AGAIN) from None
    local.parent.mkdir(parents=True, exist_ok=True)
    (local.parent / _CURRENT).write_text(json.dumps(run.told), encoding="utf-8")
    return run


def _commit(output: Place, folder: Path, told: dict[str, Any], before: _Run | None) -> _Run:
    """Send the files of a run and make it true."""
    number, token = int(told["run"]), uuid.uuid4().hex
    state, log = _run_files(folder, number)
    sent: list[Place] = []
    try:
        for name, path in (*_named(state, _state(number, token)), *_named(log, _staged(number, token))):
            write(output / _JOIN / name, path)
            sent.append(output / _JOIN / name)
    except UnreachableError as error:
        _remove_if_possible(sent)
        raise UnreachableError(f"{error.args[0]}; nothing of this join happened", hint=error.hint) from None
    moves = [name for name, _ in log]
    content = json.dumps({**told, "token": token, "moves": moves}).encode()
    doubt: UnreachableError | None = None
    try:
        write_over(output / _JOIN / _CURRENT, content, seen=None if before is None else before.item)
    except ConflictError:
        pass  # perhaps with ourselves: an answer was lost, and the question asked again
    except UnreachableError as error:
        doubt = error
    try:
        now = _current(output)
    except UnreachableError as error:
        raise UnreachableError(
            f"{error.args[0]}; whether this join happened is not known", hint="run it again: it finishes this one, or finds it undone"
        ) from None
    if now is not None and now.token == token:
        return now
    _remove_if_possible(sent)
    if doubt is not None:
        raise UnreachableError(f"{doubt.args[0]}; nothing of this join happened", hint=doubt.hint)
    raise ConflictError(f"another join wrote to {output} meanwhile; nothing of this one happened", hint=_AGAIN)


def _finish(output: Place, run: _Run) -> None:
    """Put the files of a run that became true where readers look; every step may be done twice, and by two at once."""
    staged = output / _JOIN / _staged(run.number, run.token)
    try:
        for name in run.moves:
            try:
                copied(staged / name, output / name)
            except LogError:  # somebody else finished the run, and removed what was staged
                if looked_up(output / name) is None:
                    raise
        done = json.dumps({**run.told, "token": run.token, "moves": []}).encode()
        with suppress(ConflictError):
            write_over(output / _JOIN / _CURRENT, done, seen=run.item)
        removed(_left_over(output, run))
    except UnreachableError as error:
        raise UnreachableError(f"{error.args[0]}; the join happened, and the next one finishes it", hint=error.hint) from None


def _left_over(output: Place, run: _Run) -> list[Place]:
    """Return staged files and states of this run and earlier ones, which nobody needs; a join that began later is left alone."""
    join, found = output / _JOIN, []
    for item in listed(join):
        top = item.place.below(join)[0]
        kind, _, rest = top.partition("-")
        number = rest.partition("-")[0]
        if kind in {"next", "state"} and top != run.state and number.isdigit() and int(number) <= run.number:
            found.append(item.place)
    return found


def _current(output: Place) -> _Run | None:
    place = output / _JOIN / _CURRENT
    found = read_seen(place)
    if found is None:
        return None
    content, item = found
    try:
        told = json.loads(content)
        token, moves = told.pop("token", ""), tuple(told.pop("moves", ()))
        return _Run(told | {"run": int(told["run"])}, token, moves, item)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise LogError(
            f"the state of the join in {place} cannot be read: {error}",
            hint="restore it, or join all decisions and events into a new folder",
        ) from error


def _run_files(folder: Path, number: int) -> tuple[list[tuple[str, Path]], list[tuple[str, Path]]]:
    """Return the files of a run's state, by their names in it, and those of the log, by their places."""
    state = folder / _JOIN / f"state-{number}"
    kept = {folder / _JOIN / _CURRENT, folder / _JOIN / "lock"}
    held = sorted(path for path in state.rglob("*") if path.is_file())
    others = sorted(path for path in folder.rglob("*") if path.is_file() and path not in kept and not path.is_relative_to(state))
    return (
        [(path.relative_to(state).as_posix(), path) for path in held],
        [(path.relative_to(folder).as_posix(), path) for path in others],
    )


def _named(files: list[tuple[str, Path]], folder: str) -> list[tuple[str, Path]]:
    return [(f"{folder}/{name}", path) for name, path in files]


def _remove_if_possible(places: list[Place]) -> None:
    """Remove what no run names; what stays because the storage is gone is removed by a later join."""
    with suppress(UnreachableError):
        removed(places)


def _staged(number: int, token: str) -> str:
    return f"next-{number}-{token}"


def _state(number: int, token: str) -> str:
    return f"state-{number}-{token}" if token else f"state-{number}"
