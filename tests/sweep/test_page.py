"""The page is written from outcomes and read back, and holds no defect."""

from __future__ import annotations

import pytest
from tests.sweep.page import PAGE, Place, key_of, place_of, read_page, write_page


def outcome(
    model_type: str, result: str, reason: str = "", export: str = "", part: str | None = None
) -> dict[str, object]:
    return {"model_type": model_type, "part": part, "result": result, "reason": reason, "export": export}


OUTCOMES = [
    outcome("llama", "right", export="right"),
    outcome("t5", "right", export="right", part="encoder"),
    outcome("t5", "right", export="raw refused: that is said of a decoder", part="decoder"),
    outcome("gpt_x", "right", export="raw refused: other states (relative error 0.3)"),
    outcome("albert", "refused", "AlbertModel is not supported: one list, so no number per layer would be right"),
    outcome("vit", "not text", "ViTModel is no text model: it reads image, not text"),
    outcome(
        "vit_text", "not text", "'DIR' is of the type 'vit_text', which transformers has no model without a head for"
    ),
    outcome("odd", "not made", "needs a package | that is not there"),
]


def test_what_is_written_is_read_back() -> None:
    read = read_page(write_page(OUTCOMES, "5.0"))
    assert read == {key_of(each): place_of(each) for each in OUTCOMES}
    assert read["albert", None] == Place("Refused", "one list")
    assert read["gpt_x", None] == Place("Right, but not exported", "raw refused: other states")
    assert read["vit", None] == Place("No text models", "image, not text")


def test_a_defect_is_no_row() -> None:
    with pytest.raises(ValueError, match="`llama`: wrong: layer 1"):
        write_page([outcome("llama", "wrong", "layer 1: 0.3")], "5.0")


def test_the_page_counts_what_it_lists() -> None:
    text = PAGE.read_text(encoding="utf-8")
    places = [place.section for place in read_page(text).values()]
    for section in dict.fromkeys(places):
        assert f"| {section} | {places.count(section)} |" in text
