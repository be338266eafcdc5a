"""`paretune convert`: what was chosen, in the format of another system. An edge: the terminal, files that paretune wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from paretune.commands.init import write_text
from paretune.commands.output import JsonOption, remark, say, show_json

if TYPE_CHECKING:
    from paretune.exchange.weights_table import WeightsTable

Format = Literal["weights-table", "opensearch", "flagd"]
FILES: dict[Format, str] = {"weights-table": "weights_table.json", "opensearch": "opensearch_pipelines.json", "flagd": "flags.json"}
OPERATING = "operating.json"


def convert(
    source: Annotated[
        Path, typer.Argument(metavar="SOURCE", help="A run, a bundle folder, or a JSON file of distil, export, plan or convert.")
    ],
    *,
    to: Annotated[Format, typer.Option("--to", help="weights-table = rules and weights, for any ranker.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Where to write; by default a name of the format.")
    ] = None,
    policy: Annotated[str, typer.Option(metavar="POLICY", help="Of a run: label of a pick, or name of a policy.")] = "",
    name: Annotated[str, typer.Option(metavar="ID", help="Key of the flag, or id of the search pipelines.")] = "utility-weights",
    fold: Annotated[bool, typer.Option("--fold", help="OpenSearch: a head of negative weight is scored by 1 - h.")] = False,
    bounds: Annotated[
        bool, typer.Option("--bounds/--no-bounds", help="OpenSearch: keep scores in [0, 1] as they are; needs upper_bounds.")
    ] = True,
    as_json: JsonOption = False,
) -> None:
    """Write weights or a plan in the format of another system.

    weights-table: rules by cohort or by a distilled tree, with full weights, for a ranker in any language. opensearch: hybrid-search
    pipelines of such a table. flagd: an OpenFeature flag of a plan's arms and shares. What the format cannot say is said.

    \b
    Examples:
      paretune convert runs/latest/distilled/policy.json --to weights-table
      paretune convert runs/latest --policy "cohort table" --to weights-table -o weights.json
      paretune convert weights.json --to opensearch --fold --name feed
      paretune convert plan.json --to flagd -o flags.json --json
    """
    from paretune.errors import ConfigError

    if to != "opensearch" and (fold or not bounds):
        raise ConfigError("--fold and --no-bounds are for --to opensearch", hint="leave them out")
    said: list[str] = []
    if to == "flagd":
        written, said = _flag(source, name)
    else:
        table = read_table(source, policy)
        written = _table(table) if to == "weights-table" else _pipelines(table, name, fold=fold, bounds=bounds)
    target = output or Path(FILES[to])
    write_text(target, json.dumps(written, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    if as_json:
        show_json({"file": target, "format": to, "lost": said, "written": written})
        return
    say(f"wrote {target}")
    for line in said:
        remark(f"not in it: {line}")


def read_table(source: Path, policy: str = "") -> WeightsTable:
    """Return the weights in a file or folder that paretune wrote.

    Args:
        source: a run, a folder with operating.json, or a JSON file: a distilled policy, an operating policy, a weights table.
        policy: of a run.

    Raises:
        ConfigError: the policy chooses per request by a model, or there is none of that name.
        ArtefactError: it is none of these.
    """
    from paretune.errors import ArtefactError
    from paretune.exchange.weights_table import FORMAT, decode_table, table_of_tree
    from paretune.frontier.archive import FRONT
    from paretune.value.distil_json import FORMAT as TREE_FORMAT

    if (source / FRONT).exists():
        return _of_run(source, policy)
    file = source / OPERATING if source.is_dir() else source
    document, found = _read(file)
    if found.get("format") == TREE_FORMAT:
        return table_of_tree(found)
    if found.get("format") == FORMAT:
        return decode_table(document, source=str(file))
    if "evidence" in found:
        return _of_operating(document, file)
    raise ArtefactError(f"{file} holds no weights", hint="name a run, or what `paretune distil`, `export` or `convert` wrote")


def _of_run(run: Path, policy: str) -> WeightsTable:
    from paretune.commands.picked import swept_configuration
    from paretune.errors import ConfigError
    from paretune.exchange.weights_table import table_of_cohorts, table_of_weights
    from paretune.frontier.archive import load_front
    from paretune.report.archive import CONFIG

    config, front = swept_configuration(run / CONFIG), load_front(run)
    surface = config.surface.build()
    labels = {pick.label: front.policies[pick.policy] for pick in front.picks}
    fixed = {each.kind: each for each in reversed(front.policies) if each.weights is not None or each.cohort_weights}
    chosen = labels.get(policy) or {each.name: each for each in front.policies}.get(policy) or fixed.get(policy)
    if chosen is None or (chosen.weights is None and not chosen.cohort_weights):
        raise ConfigError(
            f"{policy!r} is no policy of this run" if chosen is None else f"{policy!r} chooses per request by a model: it has no table",
            hint=f"choose one of {', '.join(fixed)}, or make a table of it with `paretune distil`",
        )
    about = {"policy": chosen.name, "kind": chosen.kind}
    static = surface.static.tolist()
    if chosen.weights is not None:
        return table_of_weights(surface.names, static, chosen.weights.tolist(), about=about)
    return table_of_cohorts(surface.names, static, dict(chosen.cohort_weights), column=config.logs.columns.cohort, about=about)


def _of_operating(document: bytes, file: Path) -> WeightsTable:
    from paretune.errors import ConfigError
    from paretune.exchange.weights_table import table_of_weights
    from paretune.policy.operating import decode_operating

    found = decode_operating(document, source=str(file))
    if not found.weights:
        raise ConfigError(
            f"{found.label!r} chooses per request by a model: it has no table", hint="make one of it with `paretune distil RUN LOGS`"
        )
    about = {"policy": found.policy, "kind": found.kind, "operating": found.fingerprint}
    return table_of_weights(found.heads, found.static, found.weights, about=about)


def _flag(source: Path, name: str) -> tuple[dict[str, Any], list[str]]:
    from paretune.exchange.flagd import flag_document, lost
    from paretune.serving.sources import read_plan

    plan = read_plan(source)
    return flag_document(plan, key=name), lost(plan)


def _table(table: WeightsTable) -> Any:
    from paretune.exchange.weights_table import encode_table

    return json.loads(encode_table(table))


def _pipelines(table: WeightsTable, name: str, *, fold: bool, bounds: bool) -> Any:
    from paretune.exchange.opensearch import pipelines

    return pipelines(table, name, fold=fold, bounds=bounds)


def _read(file: Path) -> tuple[bytes, dict[str, Any]]:
    from paretune.errors import ArtefactError, in_words

    try:
        document = file.read_bytes()
        found = json.loads(document)
    except (OSError, ValueError, RecursionError) as error:
        raise ArtefactError(f"{file} cannot be read as JSON: {in_words(error)}", hint="name a file that paretune wrote") from error
    if not isinstance(found, dict):
        raise ArtefactError(f"{file} holds {type(found).__name__}, not an object", hint="name a file that paretune wrote")
    return document, found
