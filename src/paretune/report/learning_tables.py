"""Tables of what was learned and how well: model selection, calibration, feature groups, distilled policies.

The rule of `tables` holds: plain text cells, a dash where a number does not exist.
"""

from __future__ import annotations

from collections.abc import Sequence

from paretune.report.tables import Table
from paretune.value.selection import RLoss


def selection_table(judged: Sequence[RLoss]) -> Table:
    """Return the kinds of model by held-out R-loss, best first.

    Args:
        judged: as `r_losses` returns them.
    """
    rows = [
        (one.name, f"{one.loss:.5f}", f"{one.difference:+.5f} ± {one.std_error:.5f}".replace("-", "−"), "✓ kept" if i == 0 else "")
        for i, one in enumerate(judged)
    ]
    note = "Squared error of predicted effects on held-out users, in relative units; below zero against 'no effect' is better than nothing."
    if judged and not judged[0].helps:
        note += " No model is: expect nothing of personal weights until there are more rows."
    return Table("Models by held-out R-loss", ("model", "R-loss", "against no effect", ""), tuple(rows), note)
