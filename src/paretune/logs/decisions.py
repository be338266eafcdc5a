"""The columns of served decisions, between the service that writes them and the join that reads them.

The rules: columns carry the names that paretune.toml gives them, so that a joined log needs no renaming; ids are text, also where they
were sent as numbers; a feature that shares its name with a fixed column (`cohort`, often) is that column. Beside the log's own columns
there are `decision_id` (one per decision ever made, so that a delivery twice can be told from a request decided twice), `arm` and
`elapsed_us`.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl

from paretune.config import Config
from paretune.errors import ConfigError

DECISION_ID = "decision_id"
ARM = "arm"
ELAPSED = "elapsed_us"
WIDEST_TOKEN = int(np.iinfo(np.int16).max)  # binary sequences hold int16; larger vocabularies are logged as lists

Schema = Mapping[str, pl.DataType]


def decision_schema(config: Config) -> dict[str, pl.DataType]:
    """Return the columns of a spool under this configuration, in order.

    Raises:
        ConfigError: a feature takes the name of a column that only decisions have.
    """
    names, features = config.logs.columns, config.features
    fixed: dict[str, pl.DataType] = {
        DECISION_ID: pl.String(),
        names.request_id: pl.String(),
        names.user: pl.String(),
        names.session: pl.String(),
        names.ts: pl.Datetime("us"),
        names.cohort: pl.String(),
        names.action: pl.Int32(),
        names.weights: pl.Binary(),
        names.propensity: pl.Float64(),
        names.reason: pl.String(),
        names.plan: pl.Int64(),
        ARM: pl.String(),
        ELAPSED: pl.Int64(),
    }
    sent: dict[str, pl.DataType] = {
        **dict.fromkeys(features.numeric, pl.Float64()),
        **dict.fromkeys(features.categorical, pl.String()),
        **dict.fromkeys((e.name for e in features.embeddings), pl.Binary()),
        **{s.name: token_type(s.vocabulary) for s in features.sequences},
    }
    taken = sorted({DECISION_ID, ARM, ELAPSED} & sent.keys())
    if taken:
        raise ConfigError(f"features {taken} have the names of columns of a decision", hint="log these features under other names")
    return fixed | {name: kind for name, kind in sent.items() if name not in fixed}


def token_type(vocabulary: int) -> pl.DataType:
    """Return how a sequence of this vocabulary is logged: binary int16 where its tokens fit, lists of int64 where not."""
    return pl.Binary() if vocabulary - 1 <= WIDEST_TOKEN else pl.List(pl.Int64())


def conformed(frame: pl.DataFrame, schema: Schema) -> pl.DataFrame:
    """Return a frame with exactly these columns: missing ones are null, others left out, cells that do not fit the type null."""
    columns = []
    for name, kind in schema.items():
        if name not in frame:
            columns.append(pl.lit(None, dtype=kind).alias(name))
        elif frame.schema[name] == kind:
            columns.append(pl.col(name))
        elif kind == pl.Datetime("us"):
            columns.append(_time(frame.schema[name], name).alias(name))
        else:
            columns.append(pl.col(name).cast(kind, strict=False))
    return frame.select(columns)


def _time(given: pl.DataType, name: str) -> pl.Expr:
    if isinstance(given, pl.Datetime):
        return pl.col(name).dt.replace_time_zone(None).dt.cast_time_unit("us") if given.time_zone in {None, "UTC"} else _utc(name)
    if given == pl.String:
        return pl.col(name).str.to_datetime("%+", time_unit="us", strict=False, time_zone="UTC").dt.replace_time_zone(None)
    return pl.col(name).cast(pl.Int64, strict=False).cast(pl.Datetime("us"))


def _utc(name: str) -> pl.Expr:
    return pl.col(name).dt.convert_time_zone("UTC").dt.replace_time_zone(None).dt.cast_time_unit("us")
