"""What a block changes of the process is put back: generators, columns of data sets; importing MTEB leaves no trace."""

from __future__ import annotations

import random
import subprocess
import sys

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Value

from layerscope.errors import UserError
from layerscope.tasks.choice import build_task
from layerscope.tasks.process import RandomState, columns_read_once, import_quietly, kept_random_state


def draw() -> tuple[float, float, float]:
    return random.random(), np.random.rand(), torch.rand(1).item()  # noqa: NPY002


def seed(number: int) -> None:
    random.seed(number), np.random.seed(number), torch.manual_seed(number)  # noqa: NPY002


def test_the_block_leaves_no_trace() -> None:
    seed(3)
    expected = draw()
    seed(3)
    with kept_random_state():
        seed(42)
        draw()
    assert draw() == expected


def test_building_a_task_leaves_no_trace() -> None:
    seed(3)
    expected = draw()
    seed(3)
    build_task("STS15")
    assert draw() == expected


def test_a_state_is_that_of_its_moment() -> None:
    seed(42)
    state = RandomState.now()
    expected = draw()
    seed(1)
    state.restore()
    assert draw() == expected


def test_scores_are_opened_without_mteb_and_its_side_effects() -> None:
    code = "import sys, layerscope; layerscope.open_tasks, layerscope.score_tasks; print('mteb' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_where_mteb_is_not_installed_the_command_that_installs_it_is_said(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "mteb", None)
    with pytest.raises(UserError, match="`layerscope tasks` needs the package 'mteb': run `pip install mteb`"):
        import_quietly("mteb", "`layerscope tasks`")


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
