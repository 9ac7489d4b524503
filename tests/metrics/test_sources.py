import jaxtyping
import pytest
import torch
from tests.metrics.inputs import normal, ragged

from layerscope.metrics.sources import PooledVectors, TokenStates, ViewVectors


def test_one_prompt_is_a_batch_of_one():
    states, weights = normal(5, 3), normal(2, 5, 5)
    alone, batch = TokenStates(states, attentions=weights), TokenStates(states[None], attentions=weights[None])
    for source in (alone, batch):
        assert torch.equal(source.states, states[None])
        assert torch.equal(source.attentions, weights[None])
        assert source.lengths.tolist() == [5]


def test_a_prompt_is_its_rows_without_padding_and_without_a_copy():
    states, lengths, alone = ragged([4, 0, 2], 3)
    found = TokenStates(states, lengths).split(states)
    assert [torch.equal(own, z) for own, z in zip(found, alone, strict=True)] == [True, True, True]
    assert found[2].data_ptr() == states[2].data_ptr()


@pytest.mark.parametrize("length", [-1, 6])
def test_a_length_that_the_states_cannot_have_is_refused(length):
    with pytest.raises(ValueError, match=f"between 0 and the 5 rows of the states, got {length}"):
        TokenStates(normal(2, 5, 3), torch.tensor([5, length]))


def test_what_was_computed_is_kept_under_its_key():
    source, calls = TokenStates(normal(2, 3)), []
    assert [source.once("key", lambda: calls.append(1) or 7) for _ in range(3)] == [7, 7, 7]
    assert len(calls) == 1


def test_vectors_with_other_axes_are_refused(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as users have it
    with pytest.raises(ValueError, match=r"expected the axes prompts dim, got the shape \(4, 2, 3\)"):
        PooledVectors(normal(4, 2, 3))
    with pytest.raises(ValueError, match=r"expected the axes prompts views dim, got the shape \(4, 3\)"):
        ViewVectors(normal(4, 3))


def test_without_subsets_there_is_one_with_all_prompts():
    assert [kept.tolist() for kept in ViewVectors(normal(3, 2, 4)).subsets] == [[0, 1, 2]]
    source = PooledVectors(normal(3, 4), [torch.tensor([0, 2]), torch.tensor([], dtype=torch.int64)])
    assert source.sizes.tolist() == [2, 0]
