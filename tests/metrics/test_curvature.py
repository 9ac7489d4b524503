import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.metrics import reference
from tests.metrics.inputs import massive, normal, orthonormal, ragged

from layerscope.metrics import curvature as door
from layerscope.metrics.curvature import curvature_reason
from layerscope.metrics.metric import Setting
from layerscope.metrics.sources import TokenStates


def every(steps):
    return Setting() if steps == 1 else Setting(f"{steps}-step")


def source_of(states, lengths=None):
    return TokenStates(states, lengths, precision="float64" if states.dtype == torch.float64 else "float32")


def curvature(states, lengths=None, steps=1):
    return door.curvature(source_of(states, lengths), every(steps))


def skipped_steps(states, lengths=None, steps=1):
    return door.skipped_steps(source_of(states, lengths), every(steps))


def line(tokens, dim=6, dtype=torch.float32):
    return (torch.arange(tokens)[:, None] * torch.arange(1, dim + 1) + 3).to(dtype)


def zigzag(tokens, dtype=torch.float32):
    index = torch.arange(tokens)
    return torch.stack(((index + 1) // 2, index // 2), 1).to(dtype)


DTYPES = [torch.float32, torch.float64, torch.bfloat16]


@pytest.mark.parametrize("dtype", DTYPES)
def test_closed_forms(dtype):
    assert curvature(line(20, dtype=dtype)).item() == pytest.approx(0, abs=1e-7)
    assert curvature(zigzag(20, dtype=dtype)).item() == pytest.approx(math.pi / 2, abs=1e-7)
    back_and_forth = normal(2, 9).to(dtype)[torch.arange(20) % 2]
    assert curvature(back_and_forth).item() == pytest.approx(math.pi, abs=1e-7)


def test_every_second_token_of_a_zigzag_is_a_line():
    assert curvature(zigzag(20), steps=2).item() == pytest.approx(0, abs=1e-7)
    # and every third of it zig-zags again, in steps of (2, 1) and (1, 2): cos = 4 / 5
    assert curvature(zigzag(20), steps=3).item() == pytest.approx(math.acos(0.8), abs=1e-6)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(3, 12), st.integers(1, 8), st.integers(1, 3))
def test_it_is_an_angle_that_rotation_shift_and_scale_leave(seed, tokens, dim, steps):
    states = normal(tokens, dim, seed=seed)
    here = curvature(states, steps=steps)
    there = curvature(-3.7 * states @ orthonormal(dim, dim, seed + 1) + normal(dim, seed=seed + 2), steps=steps)
    if tokens <= 2 * steps:
        assert here.isnan()
        assert "an angle needs 3" in curvature_reason(states, every(steps))
    else:
        assert 0 <= here <= math.pi
        assert there.item() == pytest.approx(here.item(), abs=1e-5)


@pytest.mark.parametrize("steps", [1, 2, 5])
@pytest.mark.parametrize("ratio", [1.0, 168.0, 10000.0])
def test_it_agrees_with_the_reference(steps, ratio):
    states = massive(60, 96, ratio)
    expected, skipped = reference.curvature(states, steps)
    assert curvature(states, steps=steps).item() == pytest.approx(expected, abs=1e-5)
    assert curvature(states.double(), steps=steps).item() == pytest.approx(expected, abs=1e-9)
    assert skipped_steps(states, steps=steps).item() == skipped == 0


def test_almost_straight_and_almost_reversed_steps_keep_their_angle():
    turn = 1e-3
    states = torch.tensor([[0.0, 0], [1, 0], [1 + math.cos(turn), math.sin(turn)], [1, 0]], dtype=torch.float64)
    assert curvature(states[:3].float()).item() == pytest.approx(turn, abs=1e-6)
    assert curvature(states.float()).item() == pytest.approx((turn + math.pi) / 2, abs=1e-6)


@pytest.mark.parametrize("scale", [1e-30, 1e-18, 27000.0, 1e18, 1e30])
def test_lengths_that_leave_float32_change_nothing(scale):
    states = normal(9, 20, dtype=torch.float32)
    assert curvature(states * scale).item() == pytest.approx(curvature(states).item(), abs=1e-6)


def test_a_step_of_length_zero_is_left_out_and_counted():
    states = zigzag(10)
    stalled = states[[0, 1, 2, 3, 3, 3, 4, 5, 6]]
    assert curvature(stalled).item() == pytest.approx(math.pi / 2, abs=1e-7)
    assert skipped_steps(stalled).item() == 2
    assert curvature(stalled.double()).item() == pytest.approx(math.pi / 2, abs=1e-12)
    expected, skipped = reference.curvature(stalled)
    assert (curvature(stalled).item(), skipped_steps(stalled).item()) == (pytest.approx(expected), skipped)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_nan_with_a_reason(dtype):
    still = torch.ones(5, 3, dtype=dtype)
    cases = {
        "no tokens": still[:0],
        "2 points on the path: an angle needs 3": still[:2],
        "no two neighbouring steps of non-zero length": still,
        "non-finite states": torch.full((5, 3), math.inf, dtype=dtype),
    }
    for reason, states in cases.items():
        assert curvature(states).isnan()
        assert curvature_reason(states) == reason
    assert skipped_steps(still).item() == 4
    assert skipped_steps(still[:2]).item() == 1
    assert skipped_steps(cases["non-finite states"]).isnan()
    assert curvature_reason(zigzag(5)) == ""


@pytest.mark.arithmetic
@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("garbage", [math.nan, 1e38])
def test_a_prompt_of_a_batch_has_the_bits_it_has_alone(steps, garbage):
    batch, lengths, alone = ragged([11, 7, 5, 2], 8, garbage=garbage)
    batch[2, 3, 3] = math.nan
    found = curvature(batch, lengths, steps=steps)
    assert found[:2].tolist() == [curvature(z, steps=steps).item() for z in alone[:2]]
    assert found[2:].isnan().all() or steps == 2
    assert skipped_steps(batch, lengths)[[0, 1, 3]].tolist() == [0, 0, 0]


@pytest.mark.parametrize("variant", ["0-step", "1-step", "k-step", "unit"])
def test_a_variant_that_names_no_path_is_refused(variant):
    for read in (door.curvature, door.skipped_steps):
        with pytest.raises(ValueError, match=f"expected the variant paper, 2-step, 3-step, ..., got '{variant}'"):
            read(TokenStates(zigzag(5)), Setting(variant))


@pytest.mark.parametrize("tokens", [3, 127, 128, 129, 300, 515])
def test_a_path_longer_than_wide_is_read_in_pieces(tokens):
    states = massive(tokens, 48, 20.0).float()
    expected, skipped = reference.curvature(states)
    assert curvature(states).item() == pytest.approx(expected, abs=1e-5)
    assert skipped_steps(states).item() == skipped


@pytest.mark.parametrize("closeness", [1e-1, 1e-2, 1e-4, 1e-6])
def test_steps_much_shorter_than_their_points_keep_their_angle(closeness):
    states = normal(1, 64, seed=1) + closeness * normal(30, 64, seed=2)
    expected, _ = reference.curvature(states.float())
    assert curvature(states.float()).item() == pytest.approx(expected, abs=1e-5)


def test_states_of_a_batch_may_be_of_any_scales():
    states = torch.stack([normal(9, 20, dtype=torch.float32) * scale for scale in (1, 1e-30, 1e25)])
    found = curvature(states).tolist()
    assert found == pytest.approx([curvature(z).item() for z in states], abs=1e-12)
    assert found == pytest.approx([curvature(states[0].double()).item()] * 3, abs=1e-6)


def test_states_that_carry_a_gradient_are_read_without_it():
    states = line(5).requires_grad_()
    assert curvature(states).item() == curvature(line(5)).item()
