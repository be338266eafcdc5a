"""The same question answered by FastAPI and pydantic, as one would write it first; for `serving.py`.

The handler decides nothing: it validates the question and returns constant static weights, so that what is compared is the way in and out.
`python benchmarks/serving_fastapi.py --core 0` prints the port and serves until it is told to stop.
"""

import argparse
import os

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field
from serving_server import HEADS, Server

from paretune.serving.server import UVICORN

Id = str | int


class Question(BaseModel):
    """Which weights for this request?"""

    model_config = ConfigDict(extra="forbid")
    request_id: Id
    user: Id
    features: dict[str, float | str | list[float] | None] = Field(default_factory=dict)
    cohort: str | None = None
    session: Id | None = None
    time_us: int | None = None


class Answer(BaseModel):
    """The weights, and why."""

    request_id: Id
    weights: dict[str, float]
    action: int | None
    arm: str
    plan: int
    propensity: float
    reason: str
    detail: str
    elapsed_ms: float


app = FastAPI()


@app.post("/v1/decide")
async def decide(question: Question) -> Answer:
    weights = dict.fromkeys(HEADS, 1.0)
    return Answer(
        request_id=question.request_id, weights=weights, action=0, arm="static", plan=1, propensity=1.0, reason="STATIC", detail="",
        elapsed_ms=0.01,
    )  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--core", type=int, default=-1)
    words = parser.parse_args()
    if words.core >= 0:
        os.sched_setaffinity(0, {words.core})
    Server(uvicorn.Config(app, host="127.0.0.1", port=0, **{**UVICORN, "http": "httptools"})).run()
