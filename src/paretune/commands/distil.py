"""`paretune distil`: a policy as a few rules that need no Python. An edge: the terminal, run folders, policy files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from paretune.commands.output import JsonOption, plain, say, show_json, show_report_table
from paretune.commands.picked import BundleOption, PickOption, RunArgument, SweptArgument, picked_policy, swept_configuration

if TYPE_CHECKING:
    from paretune.config import Config
    from paretune.frontier.given import PolicyComparison
    from paretune.records import Log
    from paretune.storage.place import Where

ROWS = 20_000  # requests of the latest training days on which rules are fitted; more change no split worth having
TREE, TABLE = "policy.json", "cohort_table.json"


def distil(
    run: RunArgument,
    logs: SweptArgument,
    *,
    pick: PickOption = "knee",
    depth: Annotated[int, typer.Option(min=1, max=4, help="Questions on the way to a leaf.")] = 3,
    bundle: BundleOption = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="DIR", help="Where to write; by default RUN/distilled.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Distil a policy into a small tree or table.

    Rules are fitted to the model's values on the training days; the held-out days say what the rules lose against the policy itself.
    Writes policy.json (the tree) and cohort_table.json: if / then / else on raw log columns, weights at every leaf,
    the static weights as fallback.

    \b
    Examples:
      paretune distil runs/latest logs/
      paretune distil runs/latest logs/ --pick constrained --depth 2 --json
    """
    import numpy as np

    from paretune.atomic import write_whole
    from paretune.frontier.archive import load_front
    from paretune.frontier.assemble import signs_of
    from paretune.frontier.given import compare, given_sums
    from paretune.frontier.sweep import choose
    from paretune.ports import part_of
    from paretune.progress import shown
    from paretune.report.archive import CONFIG, MODEL
    from paretune.report.learning_tables import comparison_table
    from paretune.run import anchor_of, checked_bundle, held_out_rows, window
    from paretune.value.distil import decide, grow_table, grow_tree, leaves
    from paretune.value.distil_json import described, policy_json

    settings, front = swept_configuration(run / CONFIG), load_front(run)
    policy = picked_policy(front, pick)
    days = window(logs, settings)
    model, surface = checked_bundle(bundle or run / MODEL, settings, days), settings.surface.build()
    with shown("distil") as progress:
        anchor = anchor_of(logs, settings, days=days.train, progress=part_of(progress, 0, 0.2))
        weights = np.array(policy.scalarisation)
        scale = signs_of(settings) / anchor.value
        rows = _latest(logs, settings, days.train)
        values = model.values(rows.state, surface.actions)
        scores = ((values - values[:, :1]) * scale) @ weights
        progress(0.3, "growing")
        tree, table = grow_tree(rows, scores, settings, depth=depth), grow_table(rows, scores, settings)

        def chosen(part: Log) -> Any:
            full = choose(model.values(part.state, surface.actions) * scale.astype(np.float32), weights[None])
            return np.column_stack([full, decide(tree, part), decide(table, part)])

        held_out = held_out_rows(logs, settings, days, lambda share, _: progress(0.5 + 0.5 * share, "measuring the loss"))
        sums = given_sums(chosen, held_out, settings, anchor=anchor)
    names = (policy.name, f"tree of {len(leaves(tree))} leaves", "cohort table")
    found = compare(sums, names, settings, weights=weights * signs_of(settings))
    folder = output or run / "distilled"
    for i, (file, rules) in enumerate(((TREE, tree), (TABLE, table)), start=1):
        about = {"pick": pick, "policy": policy.name, "objectives": _measured(found, i), "requests": found.n_rows}
        written = json.dumps(plain(policy_json(rules, surface, about=about)), indent=1, ensure_ascii=False, allow_nan=False)
        write_whole(folder / file, written.encode())
    if as_json:
        show_json({"tree": folder / TREE, "table": folder / TABLE, "comparison": found})
        return
    show_report_table(comparison_table(found))
    for line in described(tree, surface):
        say(line)
    say(f"wrote {folder / TREE} and {folder / TABLE}")


def _latest(logs: Where, config: Config, days: tuple[int, ...]) -> Log:
    """Return up to ROWS requests of the latest days."""
    from paretune.logs.parquet import scan_log
    from paretune.records import Log

    parts: list[Log] = []
    for day in reversed(days):
        for part in scan_log(logs, config, days=[day]):
            parts.append(part)
            if sum(len(each) for each in parts) >= ROWS:
                return Log.concat(parts).take(slice(0, ROWS))
    return Log.concat(parts)


def _measured(found: PolicyComparison, i: int) -> dict[str, Any]:
    return {
        name: {
            "lift": found.estimate[i, j],
            "std_error": found.std_error[i, j],
            "against_policy": found.gap[i, j],
            "against_policy_std_error": found.gap_std_error[i, j],
        }
        for j, name in enumerate(found.objectives)
    }
