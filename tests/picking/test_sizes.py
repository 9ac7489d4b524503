"""The comparison guard: equal N for pooled metrics, T and D where asked for."""

import polars as pl
import pytest
from tests.picking.tables import metric_table

from layerscope.errors import UserError
from layerscope.picking.sizes import same_size


def pooled(**other):
    return metric_table([1.0, 2.0], metric="dataset_entropy", pooling="mean", **other)


def test_equal_sizes_pass():
    same_size({"a": pooled(), "b": pooled()}, sizes=("n_prompts", "n_tokens", "dim"))
    same_size({"a": pooled()})
    same_size({})


def test_different_n_is_refused_with_its_values():
    message = r"equal N \(prompts\) to compare dataset_entropy, got a: 64, b: 128; "
    with pytest.raises(UserError, match=message):
        same_size({"a": pooled(), "b": pooled(n_prompts=128)})


def test_n_does_not_matter_to_a_mean_over_prompts():
    same_size({"a": metric_table([1.0]), "b": metric_table([1.0], n_prompts=128)})


def test_only_shared_metrics_are_compared():
    same_size({"a": pooled(), "b": metric_table([1.0], metric="rankme", pooling="mean", n_prompts=128)})


@pytest.mark.parametrize(("size", "value", "name"), [("n_tokens", 90.0, r"T \(mean"), ("dim", 576, r"D \(dim")])
def test_t_and_d_are_refused_where_asked_for(size, value, name):
    tables = {"a": metric_table([1.0]), "b": metric_table([1.0], **{size: value})}
    same_size(tables)
    with pytest.raises(UserError, match=name):
        same_size(tables, sizes=(size,))


def test_sizes_that_differ_within_a_run_are_refused_too():
    mixed = pl.concat([pooled(), pooled(n_prompts=32)])
    with pytest.raises(UserError, match="a: 32 and 64"):
        same_size({"a": mixed})
