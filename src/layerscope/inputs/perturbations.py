"""Perturbed prompts: repetition, randomness, and random prompts of a given length. Tokens in, tokens out."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from layerscope.errors import UserError, unknown
from layerscope.inputs.seeds import stable_seed

Kind = Literal["repetition", "randomness", "random"]


@dataclass(frozen=True)
class Perturbation:
    """A parsed `repetition:P`, `randomness:P` or `random:T`. `amount` is P in [0, 1], or T tokens."""

    kind: Kind
    amount: float

    @property
    def text(self) -> str:
        """What the user writes for it."""
        return f"{self.kind}:{self.amount:g}"


def parse_perturbation(text: str | None) -> Perturbation | None:
    """Read `repetition:P`, `randomness:P` or `random:T`; None stays None.

    Raises:
        UserError: the name is unknown, P is not in [0, 1], or T is not a whole number of at least 1.
    """
    if text is None:
        return None
    name, colon, amount = text.partition(":")
    kinds: tuple[Kind, ...] = get_args(Kind)
    kind = next((kind for kind in kinds if kind == name.strip()), None)
    if kind is None:
        raise unknown("perturbation", name.strip(), kinds)
    wanted = "a whole number of tokens, such as random:512" if kind == "random" else f"P in [0, 1], such as {kind}:0.5"
    try:
        value = float(amount)
    except ValueError:
        value = math.nan
    good = value >= 1 and value.is_integer() if kind == "random" else 0 <= value <= 1
    if not colon or not good:
        raise UserError(f"perturbation {text!r}: expected {wanted}, got {amount.strip()!r}")
    return Perturbation(kind, value)


def prompt_generator(seed: int, prompt_id: str) -> np.random.Generator:
    """The generator of one prompt's perturbation: the same in any order, and for every P."""
    return np.random.default_rng(stable_seed("perturbation", seed, prompt_id))


def repeat_token(
    tokens: Sequence[int], p: float, special: Collection[int], generator: np.random.Generator
) -> tuple[int, ...]:
    """Replace each token with probability p by one token of the same prompt.

    One token of the prompt is drawn, uniformly over its positions, and stands wherever a token is replaced: at
    p = 1 the prompt is that token T times. The uniform draws do not depend on p, so what is replaced at a smaller p
    is replaced at a larger one too.

    Args:
        tokens: the prompt, T token ids; as many come back.
        p: probability of replacing a token, in [0, 1].
        special: ids that stay in place and are never drawn (BOS, CLS, SEP).
        generator: the prompt's own generator.

    Paper: "Does Representation Matter?" (arXiv 2412.09563), appendix G, and "Layer by Layer" (arXiv 2502.02013),
    appendix F.1: "for each token we randomly replace it with probability p [...] by sampling a random token from
    within the prompt"; their examples and their code draw that token once a prompt.

    Departs from the authors' code, which may draw and replace special tokens, and shares one global generator.
    """
    free, replaced = _replaced(tokens, p, special, generator)
    drawn = tokens[free[int(generator.integers(len(free)))]] if free else 0
    return tuple(drawn if place in replaced else token for place, token in enumerate(tokens))


def randomize_tokens(
    tokens: Sequence[int], p: float, special: Collection[int], vocabulary: Sequence[int], generator: np.random.Generator
) -> tuple[int, ...]:
    """Replace each token with probability p by a token drawn uniformly from the vocabulary.

    The draws do not depend on p: what is replaced at a smaller p is replaced by the same token at a larger one.

    Args are those of `repeat_token`, and `vocabulary` holds the ids to draw from (see `drawable`).

    Paper: arXiv 2412.09563, appendix G; arXiv 2502.02013, appendix F.2: "We draw replacements uniformly from the
    tokenizer distribution."

    Departs from the authors' code, which draws ids from 20 to the size of the vocabulary to avoid special tokens
    (right for Pythia only) and may replace special tokens.
    """
    _, replaced = _replaced(tokens, p, special, generator)
    drawn = generator.integers(len(vocabulary), size=len(tokens))
    return tuple(vocabulary[int(drawn[place])] if place in replaced else token for place, token in enumerate(tokens))


def random_tokens(length: int, vocabulary: Sequence[int], generator: np.random.Generator) -> tuple[int, ...]:
    """A prompt of `length` tokens, each drawn uniformly and independently from the vocabulary.

    A longer prompt of the same generator starts with the shorter one.

    Paper: arXiv 2412.09563, figure 3c and appendix G (lengths 64 to 2,048 in the authors' code).
    """
    # one number at a time in the stream, so that the draws of a shorter prompt are a prefix of a longer one's
    positions = np.floor(generator.random(length) * len(vocabulary)).astype(np.int64)
    return tuple(vocabulary[int(position)] for position in positions)


def drawable(vocabulary: Collection[int], special: Collection[int]) -> tuple[int, ...]:
    """The ids that a random token may be: the vocabulary without special tokens, in order; a UserError where none is."""
    ids = tuple(sorted(set(vocabulary) - set(special)))
    if not ids:
        raise UserError("the tokenizer's vocabulary holds only special tokens, so random tokens cannot be drawn")
    return ids


def _replaced(
    tokens: Sequence[int], p: float, special: Collection[int], generator: np.random.Generator
) -> tuple[list[int], set[int]]:
    """The positions that may be replaced, and those that are."""
    if not 0 <= p <= 1:
        raise UserError(f"the probability of a perturbation is in [0, 1], got {p}")
    uniform = generator.random(len(tokens))  # in [0, 1): p = 0 replaces none, p = 1 all
    free = [position for position, token in enumerate(tokens) if token not in special]
    return free, {position for position in free if uniform[position] < p}
