import pytest
import torch
from tests.metrics.inputs import elsewhere, normal

from layerscope.metrics.products import aligned, gram_of_many
from layerscope.tasks.process import threads


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
