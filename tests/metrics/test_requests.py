import pytest

from layerscope.errors import UserError
from layerscope.metrics.catalogue import METRICS, check_variants, resolve_metrics, resolve_variants, settings


def names(*asked):
    return [metric.name for metric in resolve_metrics(asked)]


def test_all_is_everything_that_states_are_enough_for():
    assert names("all") == [name for name in METRICS if name != "sink_rate"]
    assert names("all", "sink_rate") == list(METRICS)


def test_names_and_families_once_in_the_catalogues_order():
    assert names("rankme", "prompt_entropy", "rankme") == ["prompt_entropy", "rankme"]
    assert names("sink") == ["norm_ratio", "first_token_norm", "top_share"]
    assert names("sink_rate") == ["sink_rate"]
    assert names("dime", "lidar") == ["dime", "dime_standard_error", "lidar", "lidar_rank"]
    assert names("curvature") == ["curvature", "curvature_skipped_steps"]
    assert names("infonce") == ["infonce", "infonce_bound", "infonce_chance"]
    assert names() == []


def test_an_unknown_metric_names_its_neighbours():
    with pytest.raises(UserError, match="unknown metric 'promt_entropy': did you mean 'prompt_entropy'"):
        resolve_metrics(["promt_entropy"])


def test_variants():
    entropy, curvature, ratio = (METRICS[name] for name in ("prompt_entropy", "curvature", "norm_ratio"))
    assert resolve_variants(entropy, ["default"]) == ("paper",)
    assert resolve_variants(entropy, ["all"]) == ("paper", "centered", "unit", "centered-unit", "released")
    assert resolve_variants(entropy, ["unit", "default", "paper", "3-step"]) == ("unit", "paper")
    assert resolve_variants(curvature, ["all"]) == ("paper", "2-step")
    assert resolve_variants(curvature, ["3-step", "12-step", "unit"]) == ("3-step", "12-step")
    assert resolve_variants(ratio, ["centered"]) == ("paper",)


@pytest.mark.parametrize("name", ["1-step", "0-step", "step", "-2-step", "Centered", "02-step"])
def test_a_variant_that_no_metric_has_is_refused(name):
    with pytest.raises(UserError, match=f"unknown variant '{name}'"):
        check_variants(resolve_metrics(["all"]), [name])


def test_a_variant_of_another_metric_is_refused_and_k_must_be_a_number():
    check_variants(resolve_metrics(["all"]), ["default", "all", "released", "4-step"])
    with pytest.raises(UserError, match="unknown variant 'released'"):
        check_variants(resolve_metrics(["lidar"]), ["released"])
    with pytest.raises(UserError, match="expected the k of 'k-step' as a number of 2 or more, got 'k-step'"):
        check_variants(resolve_metrics(["all"]), ["k-step"])


def test_settings_are_the_choices_that_a_metric_has():
    alphas, normalizations = (1.0, 2.0), ("none", "max")
    count = {
        metric.name: len(settings(metric, ("default", "unit"), alphas, normalizations))
        for metric in resolve_metrics(["prompt_entropy", "dime", "lidar", "curvature"])
    }
    assert count == {
        "prompt_entropy": 8,
        "curvature": 1,
        "curvature_skipped_steps": 1,
        "dime": 4,
        "dime_standard_error": 4,
        "lidar": 2,
        "lidar_rank": 2,
    }
    only = settings(METRICS["curvature"], ("2-step",), alphas, normalizations)[0]
    assert (only.variant, only.alpha, only.normalization) == ("2-step", None, None)
