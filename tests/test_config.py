"""Specs: frozen, strict, and the same from Python values and from command line text."""

import math

import pytest
from pydantic import ValidationError

from layerscope.config import ModelSpec, RunSpec, TextSpec


def spec(**options):
    return RunSpec(model=ModelSpec(name="m"), **options)


def test_text_and_tuples_mean_the_same():
    assert spec(metrics="curvature, lidar", alphas="1,inf", layers="0,3") == spec(
        metrics=("curvature", "lidar"), alphas=(1, math.inf), layers=(0, 3)
    )
    assert spec(metrics=["curvature"]) == spec(metrics="curvature")
    assert spec(alphas=2) == spec(alphas=(2.0,))


def test_specs_are_frozen():
    with pytest.raises(ValidationError, match="frozen"):
        spec().seed = 3


@pytest.mark.parametrize(
    "options",
    [{"readouts": "raw,cooked"}, {"alphas": "0"}, {"alphas": "-1"}, {"alphas": ""}, {"permutations": 9}, {"typo": 1}],
)
def test_what_cannot_be_is_refused(options):
    with pytest.raises(ValidationError):
        spec(**options)


def test_round_trip_through_json():
    before = spec(alphas=(1, math.inf), texts=TextSpec(source="a.csv", n=None))
    assert RunSpec.model_validate_json(before.model_dump_json()) == before
