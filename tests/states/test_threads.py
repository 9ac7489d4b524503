"""A worker of one thread stays one, whatever the main thread sets."""

from __future__ import annotations

import torch

from layerscope.states.threads import single_threaded
from layerscope.tasks.process import threads


def test_a_worker_that_has_not_computed_yet_does_not_take_over_what_the_main_thread_sets_later():
    pool = single_threaded("test", 1)
    with threads(2):
        pool.submit(int).result()  # starts the thread, without asking torch for anything
        torch.set_num_threads(4)
        assert pool.submit(torch.get_num_threads).result() == 1
        assert torch.get_num_threads() == 4
