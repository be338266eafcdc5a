"""`paretune publish`: a policy with its evidence into the registry, as a draft. An edge: the terminal, run folders, bundles."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from paretune.commands.output import JsonOption, remark, say, show_json
from paretune.commands.picked import BundleOption
from paretune.commands.plan import OPERATING
from paretune.commands.registered import WHERE, AsOption, NoteOption, RegistryOption, acting, lifts_lines, policy_summary, registry_at
from paretune.commands.sweep import RUN

if TYPE_CHECKING:
    from paretune.policy.registry import Registry
    from paretune.policy.rows import Registered

_KNEE = "knee"


def publish(
    source: Annotated[str, typer.Argument(metavar="RUN", help="Folder of a sweep, or of `paretune export`; by default runs/latest.")] = str(
        RUN
    ),
    policy: Annotated[str | None, typer.Argument(metavar="POLICY", help="Label of a pick, or name of a policy.")] = None,
    *,
    bundle: BundleOption = None,
    renews: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="This is new evidence for policy N; its approval is void from now on.")
    ] = None,
    registry: RegistryOption = WHERE,
    user: AsOption = "",
    note: NoteOption = "",
    as_json: JsonOption = False,
) -> None:
    """Store a policy with its evidence, as a draft.

    Exports the policy if that was not done, and stores bundle, evidence, front and report in the registry, which is made where
    there is none. Nothing is served yet: somebody else approves the policy, then it is activated. One word alone that is no
    folder names a policy of runs/latest.

    \b
    Examples:
      paretune publish knee
      paretune publish runs/monday constrained --as anna --note "week 12"
      paretune publish runs/tuesday knee --renews 3
      paretune publish bundles/knee --registry postgresql://db/paretune --json
    """
    from paretune.errors import ConfigError

    place = Path(source)
    if not place.is_dir() and (policy is not None or place.name != source):
        raise ConfigError(f"no folder at {source}", hint="name a folder of `paretune sweep` or `paretune export`, or the policy alone")
    if policy is None and not place.is_dir():
        place, policy = RUN, source
    found = published(place, policy or _KNEE, registry_at(registry, create=True), by=acting(user), bundle=bundle, renews=renews, note=note)
    if as_json:
        show_json(policy_summary(found))
        return
    say(f"policy {found.number} ({found.policy.label}, {found.policy.policy}): {found.state}")
    for line in lifts_lines(found):
        say(line)
    remark(f"next: somebody else says `paretune approve {found.number}`, then `paretune activate {found.number} --share 5`")


def published(
    place: Path, policy: str, registry: Registry, *, by: str, bundle: Path | None = None, renews: int | None = None, note: str = ""
) -> Registered:
    """Store a policy of a run, or of an export, as a draft, and return it.

    Args:
        place: folder of the run or of the export.
        policy: label of a pick, or name of a policy of the run.
        registry: where to.
        by: who publishes.
        bundle: the swept model; by default the run's own.
        renews: number of the policy that this is new evidence for.
        note: why.

    Raises:
        ConfigError: the folder is neither, or there is no such policy.
        ArtefactError: something in it was altered.
        ConflictError: it is published already.
    """
    from paretune.commands.export import exported
    from paretune.errors import ConfigError
    from paretune.frontier.archive import FRONT
    from paretune.policy.shelf import read_folder
    from paretune.report.archive import PAGE
    from paretune.run import is_run
    from paretune.serving.bundle import load_bundle

    front = report = None
    with tempfile.TemporaryDirectory(prefix="paretune-publish-") as name:
        folder = place
        if is_run(place):
            folder = Path(name) / "bundle"
            exported(place, policy, folder, bundle=bundle)
            front = (place / FRONT).read_bytes()
            report = (place / PAGE).read_bytes() if (place / PAGE).is_file() else None
        elif not (place / OPERATING).is_file():
            raise ConfigError(
                f"{place} is neither a run nor an exported policy", hint="name a folder of `paretune sweep` or `paretune export`"
            )
        document = (folder / OPERATING).read_bytes()
        served = read_folder(folder) if (folder / "SHA256SUMS").is_file() else None
        if served is not None:
            load_bundle(folder)  # its golden batch is answered, or it is refused
    return registry.publish(document, served, by=by, renews=renews, front=front, report=report, note=note)
