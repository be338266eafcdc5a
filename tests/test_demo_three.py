"""The demo with a third objective, a guardrail that must not rise: every stage and picture knows which way is better."""

from dataclasses import replace

import numpy as np
import pytest

from paretune.demo import Demo, Sizes, outcome_table, run_demo
from paretune.errors import ConfigError
from paretune.report.contents import report_figures
from paretune.sim.world import open_world

pytestmark = pytest.mark.e2e
SMALL = Sizes(6_000, 4_000, 14_000, 8_000, 3_000, 2_000)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    return run_demo(tmp_path_factory.mktemp("demo") / "run", model="ridge", sizes=SMALL, seed=1, objectives=3)


def test_hides_are_a_minimised_guardrail_beside_saves_and_related_pins(found: Demo) -> None:
    config = found.findings.config
    assert [objective.direction for objective in config.objectives] == ["maximise", "maximise", "minimise"]
    assert [guardrail.objective for guardrail in config.guardrails] == ["hide"]
    assert found.truth.lift.shape[1] == 3
    assert "save or p2p." in outcome_table(found).note


def test_the_family_ends_in_the_proposals_for_the_floors(found: Demo) -> None:
    family = [policy.scalarisation for policy in found.findings.front.policies if policy.kind == "alpha"]
    assert 21 < len(family) <= 26
    np.testing.assert_allclose(np.sum(family, axis=1), 1)
    assert all(weights[0] > 0 for weights in family[21:])


def test_every_pair_of_objectives_has_its_picture_and_lower_is_said_to_be_better(found: Demo) -> None:
    findings = found.findings
    charts = dict(report_figures(replace(findings, front=replace(findings.front, refusal=None))))  # so small a log is refused otherwise
    assert {"front", "front_1_3", "front_2_3", "picks"} <= charts.keys()
    assert "hide (lower is better)" in charts["front_1_3"].to_json()


def test_worlds_have_two_or_three_objectives() -> None:
    assert open_world("homefeed").objectives == ("save", "p2p")
    with pytest.raises(ConfigError, match="2 or 3"):
        open_world("homefeed", objectives=4)
