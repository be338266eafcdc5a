"""The columns of a log, and how binary columns are laid out.

A log is a folder of Parquet files, one sub-folder per day: `day=2026-01-31/part-0.parquet`. Fixed columns:

| column | type | meaning |
|---|---|---|
| request_id | string or integer | unique |
| user, session | string or integer | |
| ts | datetime (UTC) or integer microseconds | request time |
| day | date | partition |
| cohort | string | |
| action | int32 | 0 production, 1.. grid, null when the weights are off the grid |
| weights | list/array of m floats, or binary float32 | full weight vector that was served |
| propensity | float64 in (0, 1] | probability of what was really served |
| reason | string | EXPLORE, POLICY, STATIC or FALLBACK... |
| plan | string or integer | plan in force |
| label_age_h | float, optional | hours between the request and the reading of its events |
| one per objective | integer | raw event count of the request |
| features | as configured | numbers, strings, embeddings, token sequences |
| candidate_ids | list of integers or binary int32, optional | union of the top-k lists of all actions |
| candidate_scores | list of floats or binary float16/32, optional | row-major (candidates, m) |
| served_scores | list of floats or binary float16/32, optional | row-major (served items in list order, m); `paretune headroom` reads it |

Sequences are lists of integers or binary int16, padded in front with -1 to the configured length; embeddings lists of floats or binary.
"""

from __future__ import annotations

from typing import Final

REASON_EXPLORE: Final = "EXPLORE"
REASON_STATIC: Final = "STATIC"
REASON_POLICY: Final = "POLICY"
REASON_FALLBACK: Final = "FALLBACK"

SEQUENCE_DTYPE: Final = "<i2"  # binary layout of token sequences
WEIGHTS_DTYPE: Final = "<f4"
IDS_DTYPE: Final = "<i4"

REQUIRED: Final = ("request_id", "user", "ts", "cohort", "session", "action", "weights", "propensity", "reason")
OPTIONAL: Final = ("plan", "label_age_h", "candidate_ids", "candidate_scores", "served_scores", "day")

PER_ITEM: Final = ("served_ids", "served_events")  # binary int32 (k,), binary uint8 (k,) bit per head, optional
