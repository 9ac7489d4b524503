"""Perturbations: exact at p = 0 and 1, nested in p, special tokens untouched."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerscope.errors import UserError
from layerscope.inputs.perturbations import (
    Perturbation,
    drawable,
    parse_perturbation,
    prompt_generator,
    random_tokens,
    randomize_tokens,
    repeat_token,
)

SPECIAL = frozenset({0, 1, 2})
VOCABULARY = tuple(range(3, 500))
TOKENS = st.lists(st.integers(0, 499), max_size=60).map(tuple)
PROBABILITY = st.floats(0, 1)
SEED = st.integers(0, 2**32)


def repeat(tokens, p, seed):
    return repeat_token(tokens, p, SPECIAL, prompt_generator(seed, "a"))


def randomize(tokens, p, seed):
    return randomize_tokens(tokens, p, SPECIAL, VOCABULARY, prompt_generator(seed, "a"))


@pytest.mark.parametrize("perturb", [repeat, randomize])
@given(tokens=TOKENS, p=PROBABILITY, q=PROBABILITY, seed=SEED)
def test_what_is_replaced_at_a_smaller_p_is_replaced_alike_at_a_larger_one(perturb, tokens, p, q, seed):
    small, large = sorted((p, q))
    less, more = perturb(tokens, small, seed), perturb(tokens, large, seed)
    assert len(less) == len(more) == len(tokens)
    for token, one, other in zip(tokens, less, more, strict=True):
        if one != token:
            assert other == one
        if token in SPECIAL:
            assert one == other == token
        else:
            assert other not in SPECIAL


@pytest.mark.parametrize("perturb", [repeat, randomize])
@given(tokens=TOKENS, seed=SEED)
def test_nothing_changes_at_p_zero(perturb, tokens, seed):
    assert perturb(tokens, 0.0, seed) == tokens


@given(tokens=TOKENS, seed=SEED)
def test_repetition_at_p_one_is_one_token_of_the_prompt(tokens, seed):
    changed = {token for token in repeat(tokens, 1.0, seed) if token not in SPECIAL}
    assert len(changed) <= 1
    assert changed <= set(tokens)


@given(tokens=TOKENS, p=PROBABILITY, seed=SEED)
def test_repetition_puts_one_token_of_the_prompt_everywhere(tokens, p, seed):
    result = repeat(tokens, p, seed)
    new = {after for before, after in zip(tokens, result, strict=True) if before != after}
    assert len(new) <= 1
    assert new <= set(tokens) - SPECIAL


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_the_share_of_replaced_tokens_is_p(p):
    tokens = tuple(range(3, 20_003))
    result = randomize_tokens(tokens, p, SPECIAL, tuple(range(30_000, 60_000)), prompt_generator(0, "a"))
    share = np.mean([before != after for before, after in zip(tokens, result, strict=True)])
    assert abs(share - p) < 4 * np.sqrt(p * (1 - p) / len(tokens))


def test_random_tokens_are_uniform_over_the_vocabulary():
    vocabulary = (3, 7, 11, 400)
    counts = np.bincount(random_tokens(20_000, vocabulary, prompt_generator(0, "a")), minlength=401)[list(vocabulary)]
    chi_squared = ((counts - 5_000) ** 2 / 5_000).sum()
    assert counts.sum() == 20_000
    assert chi_squared < 16.3  # 0.999 quantile with 3 degrees of freedom


@given(short=st.integers(1, 40), more=st.integers(0, 40), seed=SEED)
def test_a_longer_random_prompt_starts_with_the_shorter_one(short, more, seed):
    longer = random_tokens(short + more, VOCABULARY, prompt_generator(seed, "a"))
    assert longer[:short] == random_tokens(short, VOCABULARY, prompt_generator(seed, "a"))


def test_each_prompt_and_seed_has_its_own_draws():
    draws = {tuple(prompt_generator(seed, name).random(4)) for seed in (0, 1) for name in ("a", "b")}
    assert len(draws) == 4


def test_the_global_generator_is_not_used():
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    randomize(tuple(range(3, 90)), 0.5, 0)
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002


def test_only_special_tokens_stay_as_they_are():
    assert repeat((0, 1), 1.0, 0) == randomize((0, 1), 1.0, 0) == (0, 1)


def test_drawable_leaves_special_tokens_out_and_needs_one_id():
    assert drawable([5, 0, 3, 9], SPECIAL) == (3, 5, 9)
    with pytest.raises(UserError, match="only special tokens"):
        drawable([0, 1], SPECIAL)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("repetition:0.5", Perturbation("repetition", 0.5)),
        ("randomness:1", Perturbation("randomness", 1.0)),
        ("randomness:0", Perturbation("randomness", 0.0)),
        ("random:512", Perturbation("random", 512.0)),
    ],
)
def test_parse_reads_back_what_it_writes(text, expected):
    assert parse_perturbation(text) == expected
    assert parse_perturbation(expected.text) == expected
    assert expected.text == text


def test_no_perturbation_stays_none():
    assert parse_perturbation(None) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("repetitoin:0.5", "unknown perturbation 'repetitoin': did you mean 'repetition'"),
        ("repetition", r"expected P in \[0, 1\], such as repetition:0.5, got ''"),
        ("repetition:", "got ''"),
        ("repetition:1.01", "got '1.01'"),
        ("randomness:-0.1", "got '-0.1'"),
        ("randomness:nan", "got 'nan'"),
        ("randomness:half", "got 'half'"),
        ("random:0", "a whole number of tokens, such as random:512, got '0'"),
        ("random:1.5", "got '1.5'"),
        ("random:inf", "got 'inf'"),
        ("", "unknown perturbation ''"),
    ],
)
def test_parse_says_what_it_expected(text, message):
    with pytest.raises(UserError, match=message):
        parse_perturbation(text)


def test_a_probability_outside_the_range_is_refused():
    with pytest.raises(UserError, match=r"in \[0, 1\], got 1\.5"):
        repeat((5, 6), 1.5, 0)


def test_golden_values_do_not_move():
    """Made with the two calls below, numpy 2.4."""
    tokens = tuple(range(3, 13))
    assert repeat_token(tokens, 0.5, {3}, prompt_generator(0, "a")) == (3, 4, 9, 9, 9, 8, 9, 10, 9, 9)
    randomized = randomize_tokens(tokens, 0.5, {3}, range(100, 200), prompt_generator(0, "a"))
    assert randomized == (3, 4, 128, 110, 131, 8, 165, 10, 190, 198)
