"""Columns give the same values, from one reading."""

from __future__ import annotations

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features, Value

from layerscope.tasks.columns import columns_read_once


@pytest.fixture
def rows() -> Dataset:
    features = Features({"text": Value("string"), "label": ClassLabel(names=["a", "b", "c"])})
    return Dataset.from_dict({"text": list("vwxyz"), "label": [0, 1, 2, 1, 0]}, features=features).select([4, 2, 0])


def test_values_are_those_of_the_table(rows) -> None:
    plain = {name: list(rows[name]) for name in rows.column_names}
    with columns_read_once():
        for name, values in plain.items():
            column = rows[name]
            assert list(column) == values
            assert [column[n] for n in range(3)] == values
            assert column[-1] == values[-1]
            assert column[1:] == values[1:]
            assert column[[2, 0]] == [values[2], values[0]]
            assert type(column[0]) is type(values[0])
            assert np.array_equal(np.asarray(column), np.asarray(values))
            with pytest.raises(IndexError):
                column[3]


def test_a_table_is_read_once(rows, monkeypatch) -> None:
    reads = []
    real = Dataset.__getitem__
    monkeypatch.setattr(Dataset, "__getitem__", lambda self, key: reads.append(key) or real(self, key))
    with columns_read_once():
        column = rows["label"]
        reads.clear()
        for _ in range(3):
            assert [column[n] for n in range(3)] == [0, 2, 0]
            assert list(column) == [0, 2, 0]
    assert reads == [slice(None)]


def test_formatted_columns_are_left_alone(rows) -> None:
    with columns_read_once():
        assert isinstance(rows.with_format("numpy")["label"][0], np.integer)


def test_nothing_stays_changed() -> None:
    from datasets.arrow_dataset import Column

    before = Column.__iter__, Column.__getitem__
    with pytest.raises(ZeroDivisionError), columns_read_once():
        raise ZeroDivisionError
    assert (Column.__iter__, Column.__getitem__) == before
