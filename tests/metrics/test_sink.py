import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.metrics import reference
from tests.metrics.inputs import massive, normal, orthonormal, ragged

from layerscope.metrics.metric import Setting
from layerscope.metrics.sink import first_token_norm, norm_ratio, norm_reason, sink_rate, top_share
from layerscope.metrics.sources import TokenStates


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 12), st.integers(2, 12), st.just(0.0) | st.floats(1e-3, 200))
def test_the_top_share_has_its_lower_bound(seed, tokens, dim, ratio):
    z = normal(tokens, dim, seed=seed) + normal(dim, seed=seed + 1)
    z[0] *= ratio
    first, rest = z[0], z[1:]
    energy = rest.square().sum(-1)
    c = (first.square().sum() / energy.sum()).item()
    direction = first / first.norm() if ratio else first
    a = (rest @ direction).square().sum().item() / energy.sum().item()
    assert top_share(TokenStates(z)).item() >= (c + a) / (c + 1) - 1e-6


def test_top_share_of_orthonormal_rows_and_of_a_massive_token():
    assert top_share(TokenStates(orthonormal(5, 9))).item() == pytest.approx(1 / 5, abs=1e-6)
    assert top_share(TokenStates(massive(109, 576))).item() > 0.99
    for variant in ("paper", "centered", "unit", "centered-unit"):
        states = massive(30, 64)
        expected = reference.distribution(states, variant).max()
        assert top_share(TokenStates(states), Setting(variant)).item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("tokens", [1, 2, 7, 8])
def test_norms_agree_with_the_reference(dtype, tokens):
    states = massive(tokens, 40, 168.0, seed=tokens).to(dtype)
    expected = reference.norm_ratio(states)
    assert (norm_ratio(TokenStates(states)).item(), first_token_norm(TokenStates(states)).item()) == pytest.approx(
        expected, rel=1e-5
    )


@pytest.mark.parametrize("scale", [1e-30, 1e-18, 27000.0, 1e18, 1e30])
def test_norms_whose_squares_leave_float32(scale):
    states = normal(9, 20, dtype=torch.float32)
    assert norm_ratio(TokenStates(states * scale)).item() == pytest.approx(
        norm_ratio(TokenStates(states)).item(), rel=1e-5
    )
    assert first_token_norm(TokenStates(states * scale)).item() == pytest.approx(
        first_token_norm(TokenStates(states)).item() * scale, rel=1e-5
    )


def test_norms_of_a_batch_ignore_padding_and_bad_prompts():
    batch, lengths, alone = ragged([9, 4, 1], 8)
    batch = torch.cat((batch, torch.full((1, 9, 8), math.inf), torch.zeros(2, 9, 8)))
    lengths = torch.tensor([*lengths.tolist(), 9, 0, 9])
    expected = [reference.norm_ratio(z) for z in alone]
    assert norm_ratio(TokenStates(batch, lengths))[:3].tolist() == pytest.approx(
        [ratio for ratio, _ in expected], rel=1e-5
    )
    assert first_token_norm(TokenStates(batch, lengths))[:3].tolist() == pytest.approx(
        [norm for _, norm in expected], rel=1e-5
    )
    assert norm_ratio(TokenStates(batch, lengths))[3:].isnan().all()
    assert first_token_norm(TokenStates(batch, lengths))[3:5].isnan().all()
    assert first_token_norm(TokenStates(batch, lengths))[5].item() == 0


def test_sink_rate_of_uniform_causal_attention_and_of_a_batch():
    def rate(weights, lengths=None):
        return sink_rate(
            TokenStates(torch.zeros(*weights.shape[:-3], weights.shape[-1], 4), lengths, attentions=weights)
        )

    causal = (torch.ones(5, 5).tril() / torch.arange(1, 6)[:, None]).repeat(3, 1, 1)
    assert rate(causal).item() == pytest.approx(sum(1 / i for i in range(1, 6)) / 5)
    weights = normal(2, 3, 6, 6).softmax(-1)
    weights[1, :, 4:] = math.nan
    expected = [reference.sink_rate(weights[0]), reference.sink_rate(weights[1, :, :4])]
    assert rate(weights, torch.tensor([6, 4])).tolist() == pytest.approx(expected)
    assert rate(weights)[1].isnan()
    assert rate(weights, torch.tensor([6, 0]))[1].isnan()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_more_than_half_of_the_tokens_zero_have_no_ratio(dtype):
    states = torch.cat((torch.zeros(3, 4), torch.ones(2, 4))).to(dtype)
    assert norm_ratio(TokenStates(states)).isnan()
    assert norm_reason(states) == "the median token norm is 0"
    assert norm_reason(states[1:]) == norm_reason(normal(5, 4).to(dtype) * 1e-30) == ""
