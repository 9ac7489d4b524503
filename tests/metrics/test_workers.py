import threading

import pytest
import torch
from tests.metrics.inputs import normal

from layerscope.metrics.spectrum import eigenvalues
from layerscope.metrics.workers import parallel_map


def test_results_come_in_order_and_an_empty_list_is_fine():
    assert parallel_map(lambda item: item * 2, list(range(17))) == list(range(0, 34, 2))
    assert parallel_map(lambda item: item, []) == []


def test_a_worker_computes_on_one_thread_and_leaves_the_main_thread_alone():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        seen = parallel_map(lambda _: (torch.get_num_threads(), threading.current_thread().name), list(range(8)))
        assert {threads for threads, _ in seen} == {1}
        assert all(name.startswith("layerscope") for _, name in seen)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_a_thread_with_one_core_is_its_own_worker():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        assert set(parallel_map(lambda _: threading.current_thread(), [1, 2])) == {threading.current_thread()}
    finally:
        torch.set_num_threads(before)


def test_threaded_eigenvalues_have_the_bits_of_serial_ones():
    states = normal(9, 60, 80, dtype=torch.float32)
    threads = torch.get_num_threads()
    found = []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            found.append(eigenvalues(states))
        torch.set_num_threads(1)
        serial = torch.stack([torch.linalg.eigvalsh(z @ z.mT).double().flip(0).clamp(min=0) for z in states])
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(one, serial) for one in found)


def test_inference_and_gradient_modes_of_the_caller_do_not_matter():
    states = normal(4, 6, 8, dtype=torch.float32)
    with torch.inference_mode():
        inside = eigenvalues(states.clone())
    assert torch.equal(inside, eigenvalues(states.clone().requires_grad_()))


def test_an_error_of_a_worker_reaches_the_caller():
    def fail(_):
        raise ZeroDivisionError("from a worker")

    with pytest.raises(ZeroDivisionError, match="from a worker"):
        parallel_map(fail, [1, 2])
