"""Runs that are killed, short of disk, written twice at once, read-only, or damaged: a right result or a named error.

LAYERSCOPE_FAULTS is the share of the tries that is made; `make faults` makes all of them, CI a tenth.
"""

from __future__ import annotations

import os

import pytest
from tests.faults.tries import Bench, plans, tried

pytestmark = pytest.mark.faults
PLANS = list(plans(float(os.environ.get("LAYERSCOPE_FAULTS", "0.1"))))


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    from tests.faults.programs import prepare

    root = tmp_path_factory.mktemp("faults")
    (root / "inputs").mkdir()
    prepare(root / "inputs")
    return Bench(root / "inputs", root)


@pytest.mark.parametrize("plan", PLANS, ids=[f"{plan.fault}-{plan.kind}" for plan in PLANS])
def test_a_fault_ends_in_the_right_result_or_a_named_error(bench, plan):
    tally = tried(bench, plan)
    assert tally.wrong == []
    assert tally.tries >= plan.n
