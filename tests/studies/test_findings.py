from __future__ import annotations

import math

import numpy as np
import pytest
from tests.studies.conftest import CLAIM

from layerscope.statistics.intervals import benjamini_hochberg
from layerscope.studies.estimates import Estimate, no_estimate
from layerscope.studies.findings import Test as StudyTest
from layerscope.studies.findings import decide, judge, number, overall


@pytest.mark.parametrize(
    ("ends", "expected", "p", "verdict"),
    [
        ((1, 3), "positive", 0.01, "holds"),
        ((1, 3), "negative", 0.01, "does not hold"),
        ((-3, -1), "negative", 0.01, "holds"),
        ((-3, -1), "positive", 0.01, "does not hold"),
        ((-1, 3), "positive", 0.01, "cannot be told"),
        ((1, 3), "positive", 0.2, "cannot be told"),
        ((1, 3), "positive", math.nan, "cannot be told"),
    ],
)
def test_a_claim_holds_where_the_whole_interval_is_on_its_side(ends, expected, p, verdict):
    estimate = Estimate(sum(ends) / 2, *ends, p, 10)
    assert decide(estimate, expected, p) == verdict


def test_tests_are_adjusted_together_and_stated_with_their_numbers():
    p = [0.01, 0.04, 0.03]
    findings = judge(
        [StudyTest(CLAIM, f"model {k}", Estimate(2, 1, 3, one, 12, unit="nats")) for k, one in enumerate(p)]
    )
    assert [one.p_adjusted for one in findings] == pytest.approx(benjamini_hochberg(np.array(p)))
    assert (
        findings[0].statement
        == "model 0: its size is 2.00 nats (95 % interval 1.00 to 3.00, 12 prompts, adjusted p = .030)"
    )
    assert {one.verdict for one in findings} == {"holds"}


def test_what_has_no_value_says_why():
    (finding,) = judge([StudyTest(CLAIM, "model", no_estimate("no prompt was long enough"))])
    assert finding.statement == "model: no value for its size: no prompt was long enough"
    assert finding.verdict == "cannot be told"


def test_verdicts_of_a_claim_are_summed_up():
    def verdicts(*values):
        return overall(judge([StudyTest(CLAIM, "m", Estimate(v, v - 1, v + 1, 0.001, 9)) for v in values]))

    assert verdicts(2, 3) == "holds"
    assert verdicts(2, -3, 0.5) == "holds in 1 of 3, does not hold in 1, cannot be told in 1"


def test_numbers_have_three_digits():
    assert [number(v) for v in (0.5, 12.345, 1234.5, 0.00012, -0.25, 0.0, math.nan)] == [
        "0.500", "12.3", "1,234", "1.2e-04", "-0.250", "0.00", "none"
    ]  # fmt: skip
