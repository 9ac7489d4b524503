"""Features of texts against values computed by hand."""

import math

import pytest

from layerscope.inputs.text_features import (
    count_sentences,
    detect_languages,
    first_kind,
    lexical_diversity,
    readability,
    words,
)


def test_words_are_runs_of_letters_in_lower_case():
    assert words("The cat's well-known 3 Ünder_score, x2!") == ["the", "cat's", "well-known", "ünder", "score", "x"]
    assert words("12 ... @-@ ") == []


def test_lexical_diversity_by_hand():
    # Windows of three: a b a -> 2/3, b a c -> 1, a c c -> 2/3.
    assert lexical_diversity("a b a c c", window=3) == pytest.approx((2 / 3 + 1 + 2 / 3) / 3)
    assert lexical_diversity("a a a a", window=2) == 0.5
    assert math.isnan(lexical_diversity("a b", window=3))


def test_lexical_diversity_does_not_fall_with_length_where_the_plain_ratio_does():
    text = " ".join(f"w{chr(97 + i % 26)}{chr(97 + i // 26 % 26)}" for i in range(30)) + " "
    once, often = lexical_diversity(text), lexical_diversity(text * 20)
    assert once == 1.0
    assert often == pytest.approx(1.0)
    assert len(set(words(text * 20))) / len(words(text * 20)) == pytest.approx(0.05)


def test_readability_by_hand():
    # 6 words, 18 letters, 2 sentences.
    expected = 4.71 * 18 / 6 + 0.5 * 6 / 2 - 21.43
    assert readability("One two six. Ten red cat!") == pytest.approx(expected)
    # A lone mark is no word, its signs are no characters.
    assert readability("One two six . Ten red cat !") == pytest.approx(expected)
    assert math.isnan(readability("... !"))


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("no mark at all", 1),
        ("One. Two? Three!", 3),
        ("One. Two", 2),
        ('He said "yes." Then he left.', 2),
        ("Version 3.14 is out...", 1),
        ("", 1),
    ],
)
def test_sentences(text, count):
    assert count_sentences(text) == count


@pytest.mark.parametrize(
    ("token", "kind"),
    [
        ("The", "capital"),
        (" the", "lower"),
        ("Ölm", "capital"),
        ("中", "lower"),
        (" 1999", "digit"),
        ("(", "other"),
        ("", "other"),
    ],
)
def test_first_kinds(token, kind):
    assert first_kind(token) == kind


def test_languages_of_sentences():
    sentences = [
        "The committee will meet again on Thursday to discuss the budget.",
        "Der Ausschuss trifft sich am Donnerstag wieder, um den Haushalt zu beraten.",
        "Le comité se réunira de nouveau jeudi pour discuter du budget.",
        "委員会は木曜日に再び予算について話し合う。",
    ]
    assert detect_languages(sentences) == ["en", "de", "fr", "ja"]
