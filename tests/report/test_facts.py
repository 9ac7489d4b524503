from __future__ import annotations

import math

import polars as pl
import pytest

from layerscope.report.facts import duration, example_conditions, example_prompts, run_facts
from layerscope.results.tables import texts_table


def test_facts_have_a_value_a_run(make_run) -> None:
    facts = run_facts([make_run("a"), make_run("b", model="other")])
    assert facts["model"] == ["tiny", "other"]
    assert facts["texts"] == ["wiki", "wiki"]
    assert "adapter" not in facts


def test_examples_are_the_ends_of_the_order_and_share_no_prompt(make_run) -> None:
    lowest, highest = example_prompts(make_run().prompts, texts_table([("p5", "text", "cut")]))
    assert [one["prompt_id"] for one in lowest] == ["p0", "p1", "p2"]
    assert [one["prompt_id"] for one in highest] == ["p5", "p4", "p3"]
    assert lowest[1]["mean"] == pytest.approx(1.2)
    assert (highest[0]["text"], highest[0]["note"]) == ("text", "cut")
    assert lowest[0]["text"] is None
    assert lowest[0]["n_tokens"] == 10


@pytest.mark.parametrize(("count", "low", "high"), [(1, 1, 0), (2, 1, 1), (5, 2, 3), (9, 3, 3)])
def test_few_prompts_are_shared_out(make_run, count, low, high) -> None:
    lowest, highest = example_prompts(make_run(ids=[f"p{i}" for i in range(count)]).prompts, None)
    assert (len(lowest), len(highest)) == (low, high)
    assert not {one["prompt_id"] for one in lowest} & {one["prompt_id"] for one in highest}


def test_examples_are_of_one_set_of_conditions(make_run) -> None:
    prompts = make_run().prompts
    other = prompts.with_columns(readout=pl.lit("normed"), value=pl.col("value") + 100)
    both = pl.concat([prompts, other])
    assert example_prompts(both, None) == example_prompts(prompts, None)
    assert example_conditions(both) == "variant paper · α = 1 · raw readout · all tokens"
    assert example_conditions(prompts.clear()) == ""


def test_prompts_without_a_value_are_no_examples(make_run) -> None:
    prompts = make_run().prompts.with_columns(value=pl.lit(math.nan))
    assert example_prompts(prompts, None) == ([], [])
    assert example_prompts(prompts.filter(pl.col("metric") == "curvature"), None) == ([], [])


@pytest.mark.parametrize(("seconds", "words"), [(8.24, "8.2 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")])
def test_durations(seconds, words) -> None:
    assert duration(seconds) == words
