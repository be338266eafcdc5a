"""Groups of features: every feature belongs somewhere by kind, a group alone is seen alone, mistakes are named."""

import pytest
from small_log import make_config, make_log

from paretune.errors import ConfigError
from paretune.value.feature_groups import feature_groups, only, with_groups
from paretune.value.train import fit

CONFIG = make_config()


def test_by_kind_every_feature_is_in_one_group():
    groups = feature_groups(CONFIG)
    assert groups == {"user": ("taste", "age", "vector"), "sequence": ("history", "items"), "context": ("country",)}
    raw = CONFIG.model_dump(mode="json")
    raw["logs"]["columns"]["cohort"] = "country"
    assert feature_groups(type(CONFIG).model_validate(raw)) == {
        "user": ("taste", "age", "vector", "country"),
        "sequence": ("history", "items"),
    }


def test_named_groups_take_the_place_of_kinds():
    config = with_groups(CONFIG, {"taste": ["taste"], "rest": ["age", "history"]})
    assert feature_groups(config) == {"taste": ("taste",), "rest": ("age", "history")}
    for wrong in ({"a": ["nothing"]}, {"a": []}):
        with pytest.raises(ConfigError, match="group 'a'"):
            with_groups(CONFIG, wrong)


@pytest.mark.parametrize("group", ["user", "sequence", "context"])
def test_a_model_of_one_group_reads_no_other_feature(group):
    seen = only(CONFIG, feature_groups(CONFIG)[group])
    model = fit(make_log(400, CONFIG), seen, model="ridge")
    assert set(model.encoder.groups) == set(feature_groups(CONFIG)[group])
    assert seen.surface == CONFIG.surface


def test_unknown_features_and_nothing_are_refused():
    for names in (("taste", "smell"), ()):
        with pytest.raises(ConfigError):
            only(CONFIG, names)
