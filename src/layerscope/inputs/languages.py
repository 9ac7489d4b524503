"""The language of a text, by a naive Bayes model of byte n-grams that ships inside a package (py3langid)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Language:
    """An ISO 639-1 code and the model's posterior probability, which is near 1 for all but very short texts."""

    code: str
    probability: float


def detect_languages(texts: Sequence[str]) -> list[Language]:
    """The most probable of 97 or so languages of each text. Unreliable below about 20 letters.

    Paper: Lui & Baldwin 2012 (langid.py).
    """
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    return [Language(str(code), float(chance)) for code, chance in map(identifier.classify, texts)]
