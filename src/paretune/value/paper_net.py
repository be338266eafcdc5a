"""The paper's value network (§4.3), by name: for comparison, and as an option.

An edge: needs torch. State: categorical embeddings, a Transformer with average pooling over the action sequence, both concatenated with the
embeddings and numbers, an MLP. Action: linear coordinates (Eq. 6) through a one-layer MLP. Backbone: state and action concatenated through
three of (batch norm, linear, ReLU). Heads: linear and sigmoid per objective. Loss: sum over objectives of the mean squared error (Eq. 8).

The first backbone layer is linear in (state, action) once its batch norm is folded in, so that a request passes the state branch once and
each action costs the two narrow layers after it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from paretune.config import Config
from paretune.extras import missing
from paretune.ports import ALONE, Progress, Team, ValueModel, silent
from paretune.records import Floats, Log, State
from paretune.surface.grid import linear_coordinates
from paretune.value.features import Encoder
from paretune.value.lessons import training_rows
from paretune.value.origin import Origin, checked_coordinates

try:
    import torch
    from torch import Tensor, nn
    from torch.nn import functional
except ImportError as error:
    raise missing("train", "the paper's network", error) from error

from paretune.value.fitting import Fitted, Lookup, Recipe, arrays_of, fit_network, held_out_users, load_arrays, seeded

LEARNING_RATES = (3e-4, 1e-3, 3e-3)  # searched on held-out loss, with the number of epochs
BATCH = 1024
_ROWS_PER_PASS = 4096  # x K x width floats are alive while scoring


@dataclass(frozen=True, slots=True)
class Sizes:
    """Widths of the network; the paper gives none of them."""

    encoder: Literal["transformer", "pooled"] = "transformer"
    d_model: int = 32  # of sequence tokens
    attention_heads: int = 2
    layers: int = 1
    word: int = 8  # of categorical embeddings
    state: int = 64  # out of the state's MLP
    action: int = 16  # out of the action's layer
    backbone: int = 64


class Attention(nn.Module):
    """One pre-norm Transformer layer over padded sequences."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        d = sizes.d_model
        self.heads = sizes.attention_heads
        self.norm, self.norm_wide = nn.LayerNorm(d), nn.LayerNorm(d)
        self.mixed, self.out = nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.wide = nn.Sequential(nn.Linear(d, 2 * d), nn.ReLU(), nn.Linear(2 * d, d))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Return (n, L, d) from x (n, L, d); mask (n, 1, 1, L) is True where a position may be looked at."""
        n, length, d = x.shape
        parts = self.mixed(self.norm(x)).view(n, length, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        seen = functional.scaled_dot_product_attention(parts[0], parts[1], parts[2], attn_mask=mask)
        x = x + self.out(seen.transpose(1, 2).reshape(n, length, d))
        return x + self.wide(self.norm_wide(x))


class Network(nn.Module):
    """The paper's network over `Encoder.parts` and linear coordinates of the action."""

    clipped: Tensor  # (M,) whether the reward lies in [0, 1]

    def __init__(self, encoder: Encoder, tuned: int, clipped: tuple[bool, ...], sizes: Sizes) -> None:
        super().__init__()
        self.words = nn.ModuleList(nn.Embedding(1 + len(words.words), sizes.word) for words in encoder.categorical)
        self.tokens = nn.ModuleList(nn.Embedding(1 + t.vocabulary, sizes.d_model, padding_idx=0) for t in encoder.sequence)
        self.length = max((t.length for t in encoder.sequence), default=0)
        self.positions = nn.Parameter(torch.randn(self.length, sizes.d_model) * 0.02)
        layers = sizes.layers if sizes.encoder == "transformer" and self.length else 0
        self.attention = nn.ModuleList(Attention(sizes) for _ in range(layers))
        width = encoder.dense_width + sizes.word * len(self.words) + (sizes.d_model if self.length else 0)
        self.state = nn.Sequential(nn.Linear(width, 2 * sizes.state), nn.ReLU(), nn.Linear(2 * sizes.state, sizes.state), nn.ReLU())
        self.action = nn.Sequential(nn.Linear(tuned, sizes.action), nn.ReLU())
        widths = (sizes.state + sizes.action, sizes.backbone, sizes.backbone)
        self.norms = nn.ModuleList(nn.BatchNorm1d(width) for width in widths)
        self.linears = nn.ModuleList(nn.Linear(width, sizes.backbone) for width in widths)
        self.heads = nn.Linear(sizes.backbone, len(clipped))
        self.register_buffer("clipped", torch.tensor(clipped), persistent=False)
        with torch.no_grad():
            for weight in self.words.parameters():
                weight[0] = 0.0  # a word that training never met says nothing

    def encode(self, dense: Tensor, categorical: Tensor, sequences: Tensor) -> Tensor:
        """Return (n, state) of dense (n, Dd), slots (n, C) and tokens (n, S, L)."""
        parts = [dense, *(table(categorical[:, i]) for i, table in enumerate(self.words))]
        if self.length:
            x = torch.stack([table(sequences[:, i]) for i, table in enumerate(self.tokens)]).sum(dim=0) + self.positions
            present = (sequences > 0).any(dim=1)  # (n, L)
            mask = (present | ~present.any(dim=1, keepdim=True))[:, None, None]  # an empty history looks at all, and is zeroed below
            for layer in self.attention:
                x = layer(x, mask)
            share = present.to(x.dtype) / present.sum(dim=1, keepdim=True).clamp(min=1)
            parts.append((share[:, None] @ x)[:, 0])
        return self.state(torch.cat(parts, dim=1))

    def forward(self, dense: Tensor, categorical: Tensor, sequences: Tensor, coordinates: Tensor) -> Tensor:
        """Return (n, M) of states and one action each (n, t)."""
        x = torch.cat([self.encode(dense, categorical, sequences), self.action(coordinates)], dim=1)
        for norm, linear in zip(self.norms, self.linears, strict=True):
            x = torch.relu(linear(norm(x)))
        return self.answer(x)

    def answer(self, x: Tensor) -> Tensor:
        """Return (..., M): sigmoid for rewards in [0, 1], as it is for others."""
        out = self.heads(x)
        return torch.where(self.clipped, torch.sigmoid(out), out)


@dataclass(frozen=True, slots=True)
class Paper:
    """A fitted network."""

    origin: Origin
    encoder: Encoder
    sizes: Sizes
    network: Network

    @property
    def name(self) -> str:
        """The kind."""
        return "paper"

    @property
    def objectives(self) -> tuple[str, ...]:
        """(M,) names."""
        return self.origin.objectives

    def values(self, state: State, actions: Floats) -> Floats:
        """Return (n, K, M) float32 expected rewards.

        Raises:
            DataError: a feature is absent or infinite, or a weight vector is not one of this surface.
        """
        checked_coordinates(self.origin.surface, actions)
        coordinates = torch.from_numpy(linear_coordinates(self.origin.surface, np.asarray(actions, np.float64)).astype(np.float32))
        result = np.empty((len(state), len(actions), len(self.objectives)), dtype=np.float32)
        folded = [_folded(norm, linear) for norm, linear in zip(self.network.norms, self.network.linears, strict=True)]
        with torch.inference_mode():
            width = self.sizes.state
            weight, bias = folded[0]
            of_actions = functional.linear(self.network.action(coordinates), weight[:, width:], bias)  # (K, backbone)
            for start in range(0, len(state), _ROWS_PER_PASS):
                parts = _tensors(self.encoder, state.take(slice(start, start + _ROWS_PER_PASS)))
                of_states = functional.linear(self.network.encode(*parts), weight[:, :width])
                x = (of_states[:, None] + of_actions).relu_()
                for later_weight, later_bias in folded[1:]:
                    x = functional.linear(x, later_weight, later_bias).relu_()
                result[start : start + _ROWS_PER_PASS] = self.network.answer(x).numpy()
        return result

    def arrays(self) -> dict[str, Floats]:
        """Return the network's parameters and buffers."""
        return arrays_of(self.network)

    def manifest(self) -> dict[str, Any]:
        """Return origin, encoder and sizes."""
        return {"origin": self.origin.manifest(), "encoder": self.encoder.manifest(), "sizes": asdict(self.sizes)}

    def save(self, folder: Path) -> None:
        """Write the artefact."""
        from paretune.value.bundle import save_model

        save_model(self, folder)


def from_arrays(arrays: dict[str, Floats], manifest: dict[str, Any]) -> ValueModel:
    """Return the model that `Paper.arrays` and `Paper.manifest` took apart."""
    origin, encoder, sizes = (
        Origin.from_manifest(manifest["origin"]),
        Encoder.from_manifest(manifest["encoder"]),
        Sizes(**manifest["sizes"]),
    )
    network = Network(encoder, len(origin.surface.tuned), origin.clipped, sizes)
    load_arrays(network, arrays)
    return Paper(origin, encoder, sizes, network)


def fit_paper(
    log: Log,
    config: Config,
    *,
    seed: int = 0,
    checkpoint: Path | None = None,
    progress: Progress = silent,
    learning_rates: tuple[float, ...] = LEARNING_RATES,
    sizes: Sizes | None = None,
    team: Team = ALONE,
) -> Paper:
    """Return the paper's network, its learning rate and number of epochs chosen on the loss of held-out users.

    Args:
        log: rows; those that explored the grid are learned from.
        config: `training.encoder`; auto is the paper's own choice, the Transformer.
        seed: of initial weights and row order.
        checkpoint: folder; one file per learning rate.
        progress: told of each epoch.
        learning_rates: searched; the best is kept.
        sizes: widths, in place of the defaults and of `training.encoder`.
        team: whose members each have a part of the log; batch norm then sees a member's share of a batch.

    Raises:
        DataError: no exploration rows, fewer than two users, a feature that is absent or infinite, or no rate that converges.
    """
    rows = training_rows(log, team=team)
    surface, training = config.surface.build(), config.training
    encoder = Encoder.fit(rows.state, config.features, team=team)
    if sizes is None:
        sizes = Sizes(encoder="transformer" if training.encoder == "auto" else training.encoder)
    table = torch.from_numpy(linear_coordinates(surface, surface.actions).astype(np.float32))
    inputs = (*_tensors(encoder, rows.state), Lookup(table, torch.from_numpy(rows.action.astype(np.int64))))
    targets = torch.from_numpy(np.ascontiguousarray(rows.rewards, dtype=np.float32))
    validation = held_out_users(rows.user, training.validation_share, team=team)
    clipped = tuple(objective.transform == "clip" for objective in config.objectives)
    tries: list[tuple[Network, Fitted, float]] = []
    for i, rate in enumerate(learning_rates):
        network = seeded(lambda: Network(encoder, len(surface.tuned), clipped, sizes), seed)

        def told(share: float, doing: str, i: int = i, rate: float = rate) -> None:
            progress((i + share) / len(learning_rates), f"learning rate {rate:g}, {doing}")

        recipe = Recipe(learning_rate=rate, batch_size=BATCH, max_epochs=training.max_epochs, patience=training.patience, schedule="cosine")
        file = None if checkpoint is None else checkpoint / f"rate-{i}.npz"
        fitted = fit_network(
            network,
            inputs,
            targets,
            squared_error,
            validation=validation,
            seed=seed,
            recipe=recipe,
            checkpoint=file,
            progress=told,
            team=team,
        )
        tries.append((network, fitted, rate))
    network, fitted, rate = min(tries, key=lambda tried: tried[1].best_loss)
    losses = {"validation": fitted.best_loss, "learning_rate": rate, "epochs": float(fitted.best_epoch)}
    return Paper(Origin.of(rows, config, seed=seed, losses=losses, team=team), encoder, sizes, network)


def squared_error(output: Tensor, target: Tensor) -> Tensor:
    """Return the sum over objectives of the mean squared error (Eq. 8)."""
    return (output - target).square().mean(dim=0).sum()


def _tensors(encoder: Encoder, state: State) -> tuple[Tensor, Tensor, Tensor]:
    """Return dense (n, Dd), slots (n, C) and tokens (n, S, L), shorter sequences padded in front."""
    encoded = encoder.parts(state)
    length = max((tokens.shape[1] for tokens in encoded.sequences), default=0)
    tokens = [np.pad(tokens, ((0, 0), (length - tokens.shape[1], 0))) for tokens in encoded.sequences]
    stacked = np.stack(tokens, axis=1) if tokens else np.zeros((len(state), 0, 0), np.int32)
    return torch.from_numpy(encoded.dense), torch.from_numpy(encoded.categorical), torch.from_numpy(stacked)


def _folded(norm: Any, linear: Any) -> tuple[Tensor, Tensor]:
    """Return weight and bias of linear(norm(x)) in evaluation mode."""
    with torch.no_grad():
        scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        return linear.weight * scale, linear.bias + linear.weight @ (norm.bias - norm.running_mean * scale)
