"""What commands about one policy of a run do alike: its options, its configuration, its policy. An edge: the terminal, run folders."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from paretune.commands.output import PathOrUrl
from paretune.storage.place import where

if TYPE_CHECKING:
    from paretune.config import Config
    from paretune.frontier.front import Front, Policy

RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="Folder that `paretune sweep` wrote.")]
SweptArgument = Annotated[PathOrUrl, typer.Argument(parser=where, metavar="LOGS", help="The log that was swept; a folder or a URL.")]
PickOption = Annotated[str, typer.Option(help="Label of a pick, or name of a swept policy.")]
BundleOption = Annotated[Path | None, typer.Option(metavar="DIR", help="The swept model; by default the run's own.")]


def swept_configuration(path: Path) -> Config:
    """Return the configuration of a run.

    Raises:
        ArtefactError: there is none.
    """
    from paretune.config import load_config
    from paretune.errors import ArtefactError

    if not path.exists():
        raise ArtefactError(f"{path.parent} holds no whole run: {path.name} is missing", hint="make one with `paretune sweep LOGS`")
    return load_config(path)


def picked_policy(front: Front, pick: str) -> Policy:
    """Return the swept policy behind a label or a name.

    Raises:
        ConfigError: there is none, or it is no member of the family.
    """
    from paretune.errors import ConfigError

    picked = {choice.label: front.policies[choice.policy] for choice in front.picks}
    found = picked.get(pick) or {policy.name: policy for policy in front.policies}.get(pick)
    if found is None or not found.scalarisation:
        labels = [label for label, policy in picked.items() if policy.scalarisation]
        raise ConfigError(
            f"{pick!r} is {'no pick of this run' if found is None else 'not a policy that chooses by one trade-off'}",
            hint=f"choose one of {', '.join(labels)}, or the name of a swept policy",
        )
    return found
