"""A reference corpus: how much of a prompt is in it already, and which of a prompt's tokens are rare there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from layerscope.errors import UserError
from layerscope.inputs.text_features import words

COMMON_SHARE = 0.9


@dataclass(frozen=True)
class Reference:
    """Texts to compare prompts with. `left_out` of the source's texts are prompts themselves and not among them."""

    name: str
    texts: tuple[str, ...]
    left_out: int


def make_reference(name: str, texts: Sequence[str], prompts: Collection[str]) -> Reference:
    """The reference without the prompts, so that no prompt can be found in it because it is in it.

    Equal apart from white space and case counts as the same. Where nothing is left, that is a UserError.
    """
    own = {_plain(prompt) for prompt in prompts}
    kept = tuple(text for text in texts if _plain(text) not in own)
    if not kept:
        raise UserError(
            f"all {len(texts)} texts of the reference {name!r} are among the prompts: give another reference corpus"
        )
    return Reference(name, kept, len(texts) - len(kept))


def _plain(text: str) -> str:
    return " ".join(text.lower().split())


def overlap(prompts: Sequence[str], reference: Reference) -> Float[np.ndarray, " prompts"]:
    """How close the nearest text of the reference comes to a prompt: the best BM25 score a distinct word.

    The query is the prompt's distinct words; the score of the best text is divided by their number, because BM25 is a
    sum over words and would otherwise measure length.

    Returns:
        Scores in [0, inf), 0 where no word is shared; NaN for a prompt without words.

    Papers: Robertson & Zaragoza 2009 (BM25; k1 1.5, b .75, Lucene's idf); arXiv 2412.09563, appendix A (the test).
    """
    import bm25s

    engine = bm25s.BM25()
    engine.index([words(text) for text in reference.texts], show_progress=False)
    scores = np.full(len(prompts), np.nan)
    for row, prompt in enumerate(prompts):
        query = sorted(set(words(prompt)))
        if query:
            scores[row] = float(np.max(engine.get_scores(query))) / len(query)
    return scores


def count_tokens(texts: Sequence[Sequence[int]]) -> Counter[int]:
    """How often each token id is in the texts."""
    return Counter(token for text in texts for token in text)


def rare_tokens(
    prompts: Sequence[Sequence[int]], counts: Counter[int], common_share: float = COMMON_SHARE
) -> Float[np.ndarray, " prompts"]:
    """Share of a prompt's tokens that are rare in the reference.

    Common are the most frequent tokens that together make up `common_share` of the reference; all others are rare.

    Args:
        prompts: token ids of each prompt.
        counts: from `count_tokens`, of the reference.
        common_share: share of the reference that common tokens make up, in (0, 1].

    Returns:
        Shares in [0, 1]; NaN for a prompt without tokens.
    """
    # Equal counts in the order of the ids, so that nothing depends on the order of the texts.
    ranked = sorted(counts, key=lambda token: (-counts[token], token))
    before = np.cumsum([0, *(counts[token] for token in ranked)])
    common = set(ranked[: int((before[:-1] < common_share * counts.total()).sum())])
    shares = [np.mean([token not in common for token in tokens]) if len(tokens) else np.nan for tokens in prompts]
    return np.array(shares, dtype=np.float64)


def log_frequency(tokens: Sequence[int], counts: Counter[int]) -> Float[np.ndarray, " tokens"]:
    """Log of each token's share of the reference, with 1 added to its count so that an unseen one has a value."""
    total = max(counts.total(), 1)
    return np.log([(counts[token] + 1) / total for token in tokens])
