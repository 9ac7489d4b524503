"""What MTEB does to the global generators is undone."""

from __future__ import annotations

import random

import numpy as np
import torch

from layerscope.tasks.choice import build_task
from layerscope.tasks.random_state import RandomState, kept_random_state


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


def test_a_seeded_state_is_that_of_seeding() -> None:
    seed(42)
    expected = draw()
    state = RandomState.seeded(42)
    seed(1)
    state.restore()
    assert draw() == expected
