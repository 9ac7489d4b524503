"""What can be said of a prompt from its text alone: words, how varied and hard they are, how it begins, its language."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

import numpy as np

FirstKind = Literal["capital", "lower", "digit", "other"]

DIVERSITY_WINDOW = 25
_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
_SENTENCE_END = re.compile(r"[.!?…。！？]+(?=[\s\"'”’)\]]|$)")


def words(text: str) -> list[str]:
    """The words of a text in lower case: runs of letters, with apostrophes and hyphens inside. Numbers are none."""
    return [word.lower() for word in _WORD.findall(text)]


def lexical_diversity(text: str, window: int = DIVERSITY_WINDOW) -> float:
    """Moving-average type-token ratio: the share of distinct words among `window` words, averaged over all places.

    The plain ratio falls as a text gets longer, whatever its vocabulary; over samples of one size it does not.

    Returns:
        A share in [1 / window, 1]; NaN where the text has fewer words than the window.

    Paper: Covington & McFall 2010 (MATTR).
    """
    found = words(text)
    ratios = [len(set(found[start : start + window])) / window for start in range(len(found) - window + 1)]
    return float(np.mean(ratios)) if ratios else float("nan")


def readability(text: str) -> float:
    """Automated Readability Index: about the years of schooling in the US that a text asks for.

    4.71 · characters / words + 0.5 · words / sentences − 21.43. Words are runs between white space that hold a letter or
    a digit, characters are their letters and digits. Chosen over Flesch's because it counts no syllables, which takes
    a dictionary of the language.

    Returns:
        Any real number, higher is harder; NaN without a word.

    Paper: Smith & Senter 1967.
    """
    counted = [run for run in text.split() if any(sign.isalnum() for sign in run)]
    if not counted:
        return float("nan")
    characters = sum(sign.isalnum() for run in counted for sign in run)
    return 4.71 * characters / len(counted) + 0.5 * len(counted) / count_sentences(text) - 21.43


def count_sentences(text: str) -> int:
    """How many sentences a text has, at least 1: runs of end marks before white space or a closing quote or bracket.

    Abbreviations ("Dr. No") count as ends: no dictionary is used. Text after the last end mark is one more.
    """
    ends = list(_SENTENCE_END.finditer(text))
    rest = text[ends[-1].end() :] if ends else text
    return max(1, len(ends) + any(sign.isalnum() for sign in rest))


def first_kind(token: str) -> FirstKind:
    """What a prompt's first token is, by its first sign that is no space: a capital, another letter, a digit, or else."""
    start = token.strip()[:1]
    if start.isupper():
        return "capital"
    if start.isalpha():
        return "lower"
    return "digit" if start.isdigit() else "other"


def detect_languages(texts: Sequence[str]) -> list[str]:
    """The ISO 639-1 code of the most probable of 97 or so languages of each text. Unreliable below about 20 letters.

    A naive Bayes model of byte n-grams that ships inside the package py3langid.

    Paper: Lui & Baldwin 2012 (langid.py).
    """
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    return [str(identifier.classify(text)[0]) for text in texts]
