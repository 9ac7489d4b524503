from html import unescape

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from layerscope.wording import counted, in_csv, in_markdown, on_screen, said_once

SIGNS = "\\`*_{}[]()<>#+-.!|~&$=:/'\"@ ab1\x1b\u202e\n"


def test_a_count_and_its_word_agree():
    assert counted(1, "task") == "1 task"
    assert counted(0, "task") == "0 tasks"
    assert counted(1204, "query", "queries") == "1,204 queries"


def test_a_sentence_is_said_once_with_whom_it_is_of_where_that_is_not_all():
    said = [("a", "of all"), ("a", "of one"), ("b", "of all"), ("b", "of b"), ("b", "of b"), ("b", "of b")]
    assert said_once(said, 2) == ["of all", "a: of one", "b: of b"]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("plain, Grüße, 日本語, 👩‍👩‍👧, می‌خواهم", "plain, Grüße, 日本語, 👩‍👩‍👧, می‌خواهم"),
        ("\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m"),
        ("a\nnote: fine\r\tb\x7f\x9b", "a\\nnote: fine\\r\\tb\\x7f\\x9b"),
        ("a\u202eb\u2066c\u200fd\u2028e\ufefff\U000e0041", "a\\u202eb\\u2066c\\u200fd\\u2028e\\ufefff\\U000e0041"),
        ("lone \ud800", "lone \\ud800"),
        (3.5, "3.5"),
    ],
)
def test_on_a_screen_nothing_is_hidden(value, shown):
    assert on_screen(value) == shown


@given(st.text())
def test_what_is_shown_can_be_printed_stays_a_line_and_is_shown_the_same_again(text):
    shown = on_screen(text)
    assert len(shown.splitlines()) <= 1
    assert "\x1b" not in shown
    shown.encode("utf-8")
    assert on_screen(shown) == shown


@pytest.mark.parametrize(
    "text",
    [
        "llama-3.1_8b",
        "prompt_entropy at layer 3 (p < .001) [0.1, 0.3] there",
        "a/b@step-1",
        "Q: 5 > 3!",
        "“text”, 95 %",
    ],
)
def test_what_markdown_takes_for_text_stays_as_it_is(text):
    assert in_markdown(text) == text


HOSTILE = [
    "<img src=x onerror=alert(1)>", "[x](javascript:alert(1))", "![x](http://y/z.png)", "[x]: http://y", "a | b",
    "**b** _i_ `c` ~~d~~ $m$", "# head", "1. one", "- list", "---", "> quote", "&lt;b&gt;", "a\n\nb\n===", "<!-- c",
    "    code", "\\", "[x][y]", "```", "<http://y>",
]  # fmt: skip


def plain(text):
    """The text of a page that is one paragraph and nothing else; None where it is anything more."""
    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(text)
    if [token.type for token in tokens] != ["paragraph_open", "inline", "paragraph_close"]:
        return None
    inside = tokens[1].children
    return (
        "".join(token.content for token in inside) if all(t.type in ("text", "text_special") for t in inside) else None
    )


@pytest.mark.parametrize("text", HOSTILE)
def test_in_markdown_data_is_text(text):
    assert plain(in_markdown(text)) == on_screen(" ".join(text.split()))
    assert plain(f"Model {in_markdown(text)}(x): {in_markdown(text)}") is not None
    cells = MarkdownIt("commonmark").enable("table").render(f"|a|b|\n|---|---|\n| {in_markdown(text)} | c |")
    assert unescape(cells).count("<td>") == 2


@given(st.text(SIGNS, min_size=1))
def test_in_markdown_any_mixture_of_signs_is_text(text):
    line = on_screen(" ".join(text.split()))
    assert line == "" or plain(in_markdown(text)) == line


@pytest.mark.parametrize("text", ["=cmd|' /C calc'!A0", "+1+1", "-1+1", "@SUM(A1)", "\t=1", "\r=1", "＝1+1", "-x"])
def test_in_csv_a_formula_is_a_text(text):
    assert in_csv(text) == f"'{text}"


@pytest.mark.parametrize("text", ["-0.5", "+1e-3", "-.5", "-inf", "nan", "a=b", "", "1-2", "10"])
def test_in_csv_numbers_and_words_stay(text):
    assert in_csv(text) == text
