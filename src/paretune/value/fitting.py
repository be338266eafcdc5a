"""One deterministic training loop for every torch model.

An edge: needs torch, reads the clock, writes checkpoints. The rules: the same seed, rows and settings give the same network to the bit,
also when the run was killed and resumed; the epoch that does best on held-out users is kept; checkpoints are arrays and JSON, never pickle.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from paretune.atomic import write_arrays
from paretune.config import Training
from paretune.errors import ArtefactError, DataError
from paretune.extras import missing
from paretune.logs.hashing import salted
from paretune.ports import ALONE, Progress, Team, silent
from paretune.records import Bools, Floats, Ints
from paretune.seeds import stream

try:
    import torch
    from torch import Tensor, nn
except ImportError as error:
    raise missing("train", "training this model", error, otherwise="train the model `ridge`") from error

ROW_VISITS = 2_000_000  # about as many as our own models see, however few the rows
WARM_UP = 0.05  # share of the steps over which the cosine schedule rises
_EVALUATION_ROWS = 8192


class Rows(Protocol):
    """A column that gives the rows of a batch: a tensor, or anything that makes them on demand."""

    def __getitem__(self, rows: Tensor, /) -> Tensor: ...

    def __len__(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Lookup:
    """Rows of a small table chosen by an index column, e.g. the basis of each row's action."""

    table: Tensor  # (K, ...)
    index: Tensor  # (n,) int64

    def __getitem__(self, rows: Tensor, /) -> Tensor:
        return self.table[self.index[rows]]

    def __len__(self) -> int:
        return len(self.index)


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a network is fitted."""

    learning_rate: float = 1e-3
    batch_size: int = 2048
    max_epochs: int = 30
    patience: int = 3  # epochs without better held-out loss before stopping
    weight_decay: float = 0.0  # AdamW's
    schedule: Literal["constant", "cosine"] = "constant"  # cosine falls to zero at the end of max_epochs
    threads: int | None = None  # of torch while fitting; None leaves them. Small networks lose to threads that wait for each other


def annealed(n: int, training: Training, *, weight_decay: float) -> Recipe:
    """Return the recipe of our own models: cosine to zero, over fewer epochs the more rows there are.

    A front is decided by differences of a per cent between actions, which the jitter of a constant rate drowns; annealing it away was worth
    up to half of the hypervolume in the simulated feed.

    Args:
        n: training rows.
        training: bounds the epochs and gives the patience.
        weight_decay: AdamW's.
    """
    epochs = int(np.clip(ROW_VISITS / max(1, n), 4, 16))
    return Recipe(2e-3, 1024, min(training.max_epochs, epochs), training.patience, weight_decay, "cosine", threads=1)


@dataclass(frozen=True, slots=True)
class Fitted:
    """What came of a fit; epochs count from 1."""

    best_epoch: int
    train_losses: tuple[float, ...]
    validation_losses: tuple[float, ...]
    seconds: float  # of this process; less than the whole after a resume

    @property
    def best_loss(self) -> float:
        """Held-out loss of the epoch that was kept."""
        return self.validation_losses[self.best_epoch - 1]


def held_out_users(user: Ints, share: float, *, salt: str = "validation", team: Team = ALONE) -> Bools:
    """Return (n,) mask of the rows of about `share` of the users, the same on every machine.

    Args:
        user: (n,) uint64 hashes as in `Log.user`.
        share: in (0, 1).
        salt: another salt holds out other users.
        team: whose members each have a part of the rows; a user is held out by all of them or by none.

    Raises:
        DataError: fewer than two users.
    """
    coin = salted(user, salt)
    mask = coin < np.uint64(int(share * 2**64))
    rows, held = team.total(np.array([len(mask), mask.sum()]))
    if not 0 < held < rows:
        lowest = np.concatenate(team.each(coin.min(initial=np.iinfo(np.uint64).max, keepdims=True))).min()
        mask = coin == lowest
        held = team.total(np.array([mask.sum()]))[0]
    if held == rows:
        raise DataError(f"{rows} rows of fewer than two users cannot be held out by user", hint="read more of the log")
    return mask


def seeded(build: Callable[[], nn.Module], seed: int) -> Any:
    """Return the module that `build` makes, its initial weights drawn from `seed`; torch's global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return build()


def fit_network(
    module: nn.Module,
    inputs: tuple[Rows, ...],
    targets: Rows,
    loss: Callable[[Any, Tensor], Tensor],
    *,
    validation: Bools,
    seed: int,
    recipe: Recipe = Recipe(),
    checkpoint: Path | None = None,
    progress: Progress = silent,
    team: Team = ALONE,
) -> Fitted:
    """Fit `module` in place and leave it in evaluation mode with the weights of its best epoch.

    A team takes every step together: each member's share of the batch, gradients averaged by rows, so that its members hold one network.
    Running averages of batch norm are averaged once an epoch; dropout is drawn alike by all.

    Args:
        module: called as `module(*inputs of the batch)`.
        inputs: columns of n rows each; float16 columns are widened per batch, so that large inputs can be stored half.
        targets: column of n rows.
        loss: mean loss of a batch, from the module's output and the batch's targets; differentiable.
        validation: (n,) True for rows that only judge; hold out by user.
        seed: of the order of rows and of dropout.
        recipe: rates, sizes and stops.
        checkpoint: file written after each epoch, resumed from when it is of the same run, overwritten when it is not.
        progress: told of each epoch.
        team: whose members each call this with their own rows and the same network; rank 0 keeps the checkpoint.

    Raises:
        DataError: no row to learn from or to judge by, columns of different length, or a loss that is not finite in the first epoch.
    """
    rows, held = (int(n) for n in team.total(np.array([len(validation), validation.sum()])))
    if any(len(column) != len(validation) for column in (*inputs, targets)) or not 0 < held < rows:
        raise DataError(
            f"columns of {[len(c) for c in (*inputs, targets)]} rows, {held} of {rows} held out",
            hint="give columns of equal length, and hold out some rows but not all",
        )
    started = time.perf_counter()
    learn, judge = np.flatnonzero(~validation), torch.from_numpy(np.flatnonzero(validation))
    optimizer = torch.optim.AdamW(module.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    run = _Run(module, optimizer, _fingerprint(module, inputs, targets, validation, seed, recipe, team))
    if run.resume(team.each(_content(checkpoint if team.rank == 0 else None))[0]):
        progress(run.epoch / recipe.max_epochs, f"resumed after epoch {run.epoch}")
    steps, ranked = max(1, round((rows - held) / recipe.batch_size)), ("rank", team.rank) if team.rank else ()
    with _threads(recipe.threads):
        while run.epoch < recipe.max_epochs and run.epoch - run.best_epoch < recipe.patience and not run.diverged:
            order = learn[stream(seed, "epoch", run.epoch, *ranked).permutation(len(learn))]
            module.train()
            total = torch.zeros((), dtype=torch.float64)
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(int(stream(seed, "dropout", run.epoch).integers(2**62)))
                for step, batch in enumerate(np.array_split(order, steps)):
                    for group in optimizer.param_groups:
                        group["lr"] = _rate(recipe, (run.epoch * steps + step) / (recipe.max_epochs * steps))
                    index = torch.from_numpy(batch)
                    optimizer.zero_grad(set_to_none=True)
                    if len(batch):  # a member with few rows skips some steps
                        value = loss(module(*_batch(inputs, index)), _widened(targets[index]))
                        value.backward()  # type: ignore[no-untyped-call]
                        total += value.detach().double() * len(batch)
                    _average_gradients(module, len(batch), team)
                    optimizer.step()
            _average_buffers(module, team)
            learned = float(team.total(total.numpy())) / (rows - held)
            run.record(learned, _mean_loss(module, inputs, targets, loss, judge, team))
            if checkpoint is not None and team.rank == 0:
                run.save(checkpoint)
            progress(run.epoch / recipe.max_epochs, f"epoch {run.epoch}: held-out loss {run.validation_losses[-1]:.5f}")
    if run.best is None:
        raise DataError("training diverged: the loss is not finite", hint="lower the learning rate, or look for huge rewards in the log")
    module.load_state_dict(run.best)
    module.eval()
    return Fitted(run.best_epoch, tuple(run.train_losses), tuple(run.validation_losses), time.perf_counter() - started)


@contextmanager
def _threads(wanted: int | None) -> Iterator[None]:
    """Let torch use so many threads inside."""
    before = torch.get_num_threads()
    torch.set_num_threads(wanted or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def arrays_of(module: nn.Module) -> dict[str, Floats]:
    """Return the module's parameters and buffers as arrays, for a bundle."""
    return {name: tensor.detach().cpu().numpy().copy() for name, tensor in module.state_dict().items()}


def load_arrays(module: nn.Module, arrays: dict[str, Floats]) -> None:
    """Put arrays of `arrays_of` into a module of the same shape, in evaluation mode.

    Raises:
        ArtefactError: a name or a shape differs.
    """
    try:
        module.load_state_dict({name: torch.from_numpy(np.ascontiguousarray(array).reshape(array.shape)) for name, array in arrays.items()})
    except RuntimeError as error:
        raise ArtefactError(f"the arrays do not fit the network: {error}", hint="train and save the model again") from error
    module.eval()


class _Run:
    """The state of a fit between two epochs, and its checkpoint."""

    def __init__(self, module: nn.Module, optimizer: torch.optim.Optimizer, fingerprint: str) -> None:
        self.module, self.optimizer, self.fingerprint = module, optimizer, fingerprint
        self.epoch, self.best_epoch, self.diverged = 0, 0, False
        self.train_losses: list[float] = []
        self.validation_losses: list[float] = []
        self.best: dict[str, Tensor] | None = None

    def record(self, train_loss: float, validation_loss: float) -> None:
        """Close an epoch."""
        self.epoch += 1
        best = min(self.validation_losses, default=math.inf)
        self.train_losses.append(train_loss)
        self.validation_losses.append(validation_loss)
        self.diverged = not (math.isfinite(train_loss) and math.isfinite(validation_loss))
        if not self.diverged and validation_loss < best:
            self.best_epoch = self.epoch
            self.best = {name: tensor.detach().clone() for name, tensor in self.module.state_dict().items()}

    def save(self, path: Path) -> None:
        """Write the checkpoint."""
        arrays = {f"model/{name}": tensor.detach().numpy() for name, tensor in self.module.state_dict().items()}
        arrays |= {f"best/{name}": tensor.numpy() for name, tensor in (self.best or {}).items()}
        for slot, state in self.optimizer.state_dict()["state"].items():
            arrays |= {f"optimizer/{slot}/{name}": tensor.numpy() for name, tensor in state.items()}
        notes = {
            name: getattr(self, name) for name in ("fingerprint", "epoch", "best_epoch", "diverged", "train_losses", "validation_losses")
        }
        write_arrays(path, arrays | {"notes": np.frombuffer(json.dumps(notes).encode(), dtype=np.uint8)})

    def resume(self, content: Ints) -> bool:
        """Take up the checkpoint, given as bytes, if it is whole and of this very run."""
        try:
            with np.load(io.BytesIO(content.tobytes()), allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            notes = json.loads(arrays.pop("notes").tobytes())
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return False
        if notes.pop("fingerprint") != self.fingerprint:
            return False
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        self.module.load_state_dict(_under("model/", tensors))
        self.best = _under("best/", tensors) or None
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in _under("optimizer/", tensors).items():
            slot, key = name.split("/", 1)
            state.setdefault(int(slot), {})[key] = tensor
        self.optimizer.load_state_dict({"state": state, "param_groups": self.optimizer.state_dict()["param_groups"]})
        for name, value in notes.items():
            setattr(self, name, value)
        return True


def _content(path: Path | None) -> Ints:
    """Return the bytes of a file (n,) uint8, none where it cannot be read."""
    try:
        return np.frombuffer(b"" if path is None else path.read_bytes(), dtype=np.uint8)
    except OSError:
        return np.empty(0, np.uint8)


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _fingerprint(
    module: nn.Module, inputs: tuple[Rows, ...], targets: Rows, validation: Bools, seed: int, recipe: Recipe, team: Team
) -> str:
    """Return a hash of all that decides the result: initial weights, settings, and a spread sample of every member's rows."""
    digest = hashlib.sha256(json.dumps([seed, asdict(recipe), len(validation), torch.__version__], sort_keys=True).encode())
    digest.update(np.packbits(validation).tobytes())
    for name, tensor in module.state_dict().items():
        digest.update(name.encode() + tensor.detach().numpy().tobytes())
    sample = torch.linspace(0, len(validation) - 1, 64).long()
    for column in (*inputs, targets):
        digest.update(column[sample].numpy().tobytes())
    return hashlib.sha256(np.concatenate(team.each(np.frombuffer(digest.digest(), dtype=np.uint8))).tobytes()).hexdigest()


def _average_gradients(module: nn.Module, rows: int, team: Team) -> None:
    """Give every member the gradient of the whole batch: the members' own, weighted by the rows that they are means over."""
    if team.size == 1:
        return
    weights = [weight for weight in module.parameters() if weight.requires_grad]
    own = torch.cat([torch.zeros_like(w).ravel() if w.grad is None else w.grad.ravel() for w in weights])
    total = torch.from_numpy(team.total(torch.cat([own * rows, own.new_tensor([rows])]).numpy()))
    *summed, batch = torch.split(total, [*(w.numel() for w in weights), 1])
    for weight, gradient in zip(weights, summed, strict=True):
        weight.grad = (gradient / batch).view_as(weight)


def _average_buffers(module: nn.Module, team: Team) -> None:
    """Give every member the mean of what the members' batch norms saw."""
    if team.size == 1:
        return
    for buffer in module.buffers():
        if buffer.is_floating_point():
            buffer.copy_(torch.from_numpy(team.total(buffer.numpy()) / team.size))


def _batch(inputs: tuple[Rows, ...], rows: Tensor) -> Iterator[Tensor]:
    return (_widened(column[rows]) for column in inputs)


def _widened(column: Tensor) -> Tensor:
    return column.float() if column.dtype == torch.float16 else column


def _rate(recipe: Recipe, done: float) -> float:
    if recipe.schedule == "constant":
        return recipe.learning_rate
    return recipe.learning_rate * min(1.0, (done + 1e-3) / WARM_UP) * 0.5 * (1 + math.cos(math.pi * done))


def _mean_loss(
    module: nn.Module, inputs: tuple[Rows, ...], targets: Rows, loss: Callable[[Any, Tensor], Tensor], rows: Tensor, team: Team
) -> float:
    module.eval()
    total = 0.0
    with torch.inference_mode():
        for index in torch.split(rows, _EVALUATION_ROWS) if len(rows) else ():
            total += float(loss(module(*_batch(inputs, index)), _widened(targets[index]))) * len(index)
    summed, judged = team.total(np.array([total, len(rows)]))
    return float(summed / judged)
