"""The example ranker: asks while it scores, ranks by what it is told, and by its own weights when nobody answers."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paretune.client import Client

FOLDER = Path(__file__).parents[2] / "examples" / "parallel_ranker"


@pytest.mark.e2e
def test_the_example_runs_and_is_answered() -> None:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(FOLDER.parents[1] / "src")}
    command = [sys.executable, str(FOLDER / "ranker.py"), "--requests", "40"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120, env=environment).stdout
    found = dict(line.split(maxsplit=1) for line in printed.splitlines())
    reasons: dict[str, Any] = json.loads(found["reasons"].replace("'", '"'))
    assert reasons.get("STATIC", 0) >= 20, "most requests are answered by the service, however busy the machine is"
    assert float(found["alone_ms"]) > 0.5
    assert float(found["added_ms"]) < 0.5 * float(found["alone_ms"]), "asking one after the other would be worse than this"


def test_lists_follow_the_weights_that_are_served_and_the_static_ones_without_a_service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(FOLDER)
    import ranker as example

    with Client("http://127.0.0.1:9", static=example.STATIC) as client:
        ranker = example.Ranker(client)
        served, answer = ranker.ranked(1, 7, {"age": 31.0})
        assert (answer.reason, answer.weights) == ("FALLBACK:client", example.STATIC)
        assert np.array_equal(served, ranker.ranked_alone(7))
        assert len(served) == example.SERVED
        utility = ranker.scores(7) @ ranker.static
        assert np.array_equal(served, np.argsort(-utility, kind="stable")[: example.SERVED])
