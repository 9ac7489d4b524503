import threading

import pytest
import torch
from tests.metrics.inputs import elsewhere, normal

from layerscope.metrics.sources import TokenStates
from layerscope.metrics.workers import aligned, gram_of_many, on_one_thread, parallel_map
from layerscope.tasks.process import threads


def test_results_come_in_order_and_an_empty_list_is_fine():
    assert parallel_map(lambda item: item * 2, list(range(17))) == list(range(0, 34, 2))
    assert parallel_map(lambda item: item, []) == []


def test_a_worker_computes_on_one_thread_and_leaves_the_main_thread_alone():
    def where(_=None):
        return torch.get_num_threads(), threading.current_thread().name

    with threads(2):
        for seen in (parallel_map(where, list(range(8))), parallel_map(where, [1]), [on_one_thread(where)]):
            assert {number for number, _ in seen} == {1}
            assert all(name.startswith("layerscope") for _, name in seen)
        assert torch.get_num_threads() == 2


def test_a_thread_with_one_core_is_its_own_worker():
    with threads(1):
        assert set(parallel_map(lambda _: threading.current_thread(), [1, 2])) == {threading.current_thread()}


def test_a_worker_may_hand_out_work_itself():
    with threads(2):
        found = parallel_map(lambda item: parallel_map(lambda other: item * other, [1, 2]), [1, 2, 3])
    assert found == [[1, 2], [2, 4], [3, 6]]


@pytest.mark.arithmetic
def test_threaded_eigenvalues_have_the_bits_of_serial_ones():
    states = normal(9, 60, 80, dtype=torch.float32)
    found = []
    for count in (1, 2, 3):
        with threads(count):
            found.append(torch.stack(TokenStates(states).spectra("paper", "float32")))
    with threads(1):
        serial = torch.stack([torch.linalg.eigvalsh(z @ z.mT).double().flip(0).clamp(min=0) for z in states])
    assert all(torch.equal(one, serial) for one in found)


def test_inference_and_gradient_modes_of_the_caller_do_not_matter():
    states = normal(4, 6, 8, dtype=torch.float32)
    with torch.inference_mode():
        inside = TokenStates(states.clone()).spectra("paper", "float32")
    outside = TokenStates(states.clone().requires_grad_()).spectra("paper", "float32")
    assert torch.equal(torch.stack(inside), torch.stack(outside))


def test_an_error_of_a_worker_reaches_the_caller():
    def fail(_):
        raise ZeroDivisionError("from a worker")

    with pytest.raises(ZeroDivisionError, match="from a worker"):
        parallel_map(fail, [1, 2])


def test_rows_that_lie_as_a_fresh_tensor_would_are_not_copied():
    rows = normal(6, 16, dtype=torch.float32)
    assert aligned(rows, torch.float32).data_ptr() == rows.data_ptr()
    assert aligned(rows[4:], torch.float32).data_ptr() == rows[4:].data_ptr()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_rows_that_lie_elsewhere_come_to_where_a_fresh_tensor_could_be(dtype):
    rows = normal(9, 7).to(dtype)
    places = (rows[1:], rows[::2], rows.mT, rows[:, 2:], rows[3:4], elsewhere(rows, 3), rows[:0], rows[:, :1])
    for place in places:
        for wanted in (torch.float32, torch.float64):
            found = aligned(place, wanted)
            assert found.data_ptr() % 64 == 0
            assert found.stride() == (place.shape[1], 1)
            assert torch.equal(found, place.to(wanted))


@pytest.mark.arithmetic
@pytest.mark.parametrize("rows", [0, 1, 511, 512, 513, 1100])
def test_a_gram_matrix_in_pieces_is_the_product_on_any_number_of_threads(rows):
    vectors = normal(rows, 33)
    found = []
    for number in (1, 2, 4):
        with threads(number):
            found.append(gram_of_many(vectors))
    torch.testing.assert_close(found[0], vectors @ vectors.mT, rtol=0, atol=1e-12)
    assert all(torch.equal(one, found[0]) for one in found)
