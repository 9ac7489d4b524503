"""The reference corpus: never a prompt in it, rare tokens and overlap by hand."""

import math

import numpy as np
import pytest

from layerscope.errors import UserError
from layerscope.inputs.reference import count_tokens, log_frequency, make_reference, overlap, rare_tokens


def test_prompts_are_not_in_their_reference():
    reference = make_reference("r", ["A cat  sat.", "a dog ran", "a bird"], ["a CAT sat.", "another"])
    assert reference.texts == ("a dog ran", "a bird")
    assert reference.left_out == 1
    with pytest.raises(UserError, match="all 1 texts of the reference 'r' are among the prompts"):
        make_reference("r", ["x"], ["X"])


def test_common_tokens_make_up_the_share():
    counts = count_tokens([[1] * 6, [2] * 3, [3]])
    # 60 % by token 1 alone; 90 % needs 2 as well; 3 is rare, and so is what was never seen.
    prompts = [[1, 2, 3, 9], [1, 1], [3, 9], []]
    assert rare_tokens(prompts, counts, 0.9)[:3] == pytest.approx([0.5, 0.0, 1.0])
    assert rare_tokens(prompts, counts, 0.6)[:3] == pytest.approx([0.75, 0.0, 1.0])
    assert math.isnan(rare_tokens(prompts, counts)[3])


def test_log_frequency_of_unseen_tokens_is_finite():
    counts = count_tokens([[1, 1, 1, 2]])
    assert log_frequency([1, 2, 7], counts) == pytest.approx(np.log([4 / 4, 2 / 4, 1 / 4]))


def test_overlap_is_highest_for_a_near_copy_and_does_not_count_repetition():
    texts = ["the red fox crossed the frozen river", "markets fell again on tuesday", "rain is expected in the north"]
    reference = make_reference("r", texts, [])
    near, far, none, empty = overlap(
        ["The red fox crossed a river", "rain rain rain fell", "zzz qqq", "123"], reference
    )
    assert near > far > 0
    assert none == 0
    assert math.isnan(empty)
    twice = overlap(["The red fox crossed a river. The red fox crossed a river"], reference)[0]
    assert twice == pytest.approx(near)


def test_overlap_by_hand():
    """One document holds the word: Lucene's BM25, k1 1.5, b .75, document lengths 2 and 2."""
    reference = make_reference("r", ["cat dog", "bird fish"], [])
    idf = math.log(1 + (2 - 1 + 0.5) / (1 + 0.5))
    assert overlap(["cat"], reference)[0] == pytest.approx(idf / (1 + 1.5), rel=1e-5)
    assert overlap(["cat zebra"], reference)[0] == pytest.approx(idf / (1 + 1.5) / 2, rel=1e-5)
