"""Stable seeds: the same everywhere, different for different purposes."""

import os
import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from layerscope.inputs.seeds import stable_seed

PARTS = st.lists(st.one_of(st.integers(), st.text()), min_size=1, max_size=4)


@given(PARTS, PARTS)
def test_seeds_are_equal_only_for_equal_parts(one, other):
    assert (stable_seed(*one) == stable_seed(*other)) == (one == other)
    assert 0 <= stable_seed(*one) < 2**64


def test_neighbouring_parts_are_not_joined_and_types_are_kept():
    assert (
        len({stable_seed("ab", "c"), stable_seed("a", "bc"), stable_seed("abc"), stable_seed(1), stable_seed("1")}) == 5
    )


def test_a_seed_does_not_depend_on_the_process():
    code = "from layerscope.inputs.seeds import stable_seed; print(stable_seed('view', 0, 'Łódź', 3))"
    environment = {**os.environ, "PYTHONHASHSEED": "1"}
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert int(out.stdout) == stable_seed("view", 0, "Łódź", 3)
