"""`paretune export`: a policy of a run as a folder that any ranker can serve. An edge: the terminal, run folders, bundles."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from paretune.commands.output import JsonOption, PathOrUrl, remark, say, show_json
from paretune.commands.picked import BundleOption, swept_configuration
from paretune.storage.place import where

if TYPE_CHECKING:
    from paretune.frontier.front import Front
    from paretune.report.contents import Findings
    from paretune.serving.bundle import Parity

OPERATING = "operating.json"


def export(
    run: Annotated[PathOrUrl, typer.Argument(parser=where, metavar="RUN", help="Folder that `paretune sweep` wrote, or its URL.")],
    policy: Annotated[str, typer.Argument(metavar="POLICY", help="Label of a pick, or name of a policy of the front.")] = "knee",
    *,
    output: Annotated[
        PathOrUrl,
        typer.Option("--output", "-o", parser=where, metavar="DIR", help="The bundle, replaced if there; by default RUN/bundle."),
    ] = None,
    bundle: BundleOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a policy as a bundle to serve.

    The bundle holds policy.onnx, which any ONNX Runtime host serves (inputs: the request's features and the trade-off; outputs:
    weights, action, values), the model, a golden batch and checksums; operating.json beside them says which trade-off, and what
    speaks for it. Exits 4 if the graph does not choose as the model does in float64. Fixed weights need no graph.

    \b
    Examples:
      paretune export runs/latest knee --output bundles/knee
      paretune export runs/latest "alpha 0.5" --output bundles/half --json
    """
    from paretune.storage.copies import fetched, kept
    from paretune.value.bundle import SUMS

    folder = output or run / "bundle"
    with fetched(run) as swept, kept(folder, last=SUMS) as local:
        written, parity = exported(swept, policy, local, bundle=bundle)
    if as_json:
        show_json({"folder": folder, "operating": written, "parity": parity})
        return
    if parity is None:
        say(f"{written['policy']}: fixed weights, no bundle needed; a plan's arm holds them as `weights`")
    else:
        say(f"{written['policy']}: bundle {written['bundle']}")
        say(f"  the action of float64 on {parity.agreement:.4%} of {parity.pairs:,} (request, trade-off) pairs")
    say(f"wrote {folder}")
    remark(f"next: an arm of a plan names the bundle, see {folder / OPERATING}")


def exported(run: Path, policy: str, folder: Path, *, bundle: Path | None = None) -> tuple[dict[str, Any], Parity | None]:
    """Write a policy of a run as a bundle, and return its record and how its graph compares with float64; None of fixed weights.

    Args:
        run: folder that a sweep wrote.
        policy: label of a pick, or name of a policy.
        folder: replaced if there.
        bundle: the swept model; by default the run's own.

    Raises:
        ArtefactError: the run or its model is not whole.
        ConfigError: there is no such policy, or the model is of another surface.
        GateError: the graph chooses otherwise than the model.
    """
    import json

    from paretune.atomic import write_whole
    from paretune.errors import ArtefactError, ConfigError
    from paretune.policy.operating import operating_policy
    from paretune.report.archive import CONFIG, MODEL, SCALE, load_run
    from paretune.run import origin_of
    from paretune.serving.bundle import load_bundle, save_bundle
    from paretune.value.bundle import load_model

    settings = swept_configuration(run / CONFIG)
    found = load_run(run)
    index = _index(found.front, policy)
    chosen, fingerprint, parity = found.front.policies[index], "", None
    operating_policy(found.front, index, settings, bundle="", scale=None, hold_out=())  # refused before anything is written
    if chosen.weights is None:
        if found.scale is None:
            raise ArtefactError(
                f"{run / SCALE} is missing: the run is of an earlier release", hint="make it again with `paretune sweep LOGS`"
            )
        model = load_model(bundle or run / MODEL)
        if origin_of(model).config.surface != settings.surface or model.objectives != tuple(o.name for o in settings.objectives):
            raise ConfigError(f"{bundle or run / MODEL} is of another surface or other objectives", hint="name the model that was swept")
        parity = save_bundle(model, folder, scale=found.scale)  # type: ignore[arg-type]
        fingerprint = load_bundle(folder).fingerprint
    written = operating_policy(
        found.front, index, settings, bundle=fingerprint, scale=found.scale if fingerprint else None, hold_out=_held_out(found)
    )
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / OPERATING, json.dumps(written, indent=1, ensure_ascii=False, allow_nan=False).encode())
    return written, parity


def _index(front: Front, name: str) -> int:
    """Return the policy behind the label of a pick or a name.

    Raises:
        ConfigError: there is none.
    """
    from paretune.errors import ConfigError

    labels = {pick.label: pick.policy for pick in front.picks}
    names = {policy.name: i for i, policy in enumerate(front.policies)}
    found = labels.get(name, names.get(name))
    if found is None:
        raise ConfigError(f"{name!r} is no policy of this run", hint=f"choose one of {', '.join(labels)}, or the name of a policy")
    return found


def _held_out(found: Findings) -> tuple[str, ...]:
    """Return the first and last held-out day; nothing where the run kept no check of its log."""
    import numpy as np

    from paretune.logs.parquet import day_name
    from paretune.logs.split import time_split

    if found.check is None:
        return ()
    evaluation = found.config.evaluation
    _, held_out = time_split(np.array(found.check.days), train_days=evaluation.train_days, hold_out_days=evaluation.hold_out_days)
    return day_name(int(held_out[0])), day_name(int(held_out[-1]))
