from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from layerscope.figures.terminal import Column, TerminalTable, wrapped

NUMBERS = st.one_of(st.integers(-(10**9), 10**9).map(str), st.floats(-1e6, 1e6).map(lambda value: f"{value:.4f}"))
INTERVALS = st.tuples(*[st.floats(-1, 1)] * 3).map(lambda ends: "{:.3f} [{:.3f}, {:.3f}]".format(*ends))
WORDS = st.lists(st.sampled_from(["layer", "chosen", "0.125", "[0.1, 0.2]", "a", "best"]), max_size=12).map(" ".join)


@st.composite
def tables(draw):
    rows = draw(st.integers(0, 4))

    def column(kind, name):
        cells = draw(st.lists({"n": NUMBERS, "i": INTERVALS, "t": WORDS}[kind], min_size=rows, max_size=rows))
        return Column(name, cells, right=kind == "n", text=kind == "t", spare=draw(st.booleans()) and name != "c0")

    kinds = draw(st.lists(st.sampled_from("nit"), min_size=1, max_size=8))
    columns = [column(kind, f"c{number}") for number, kind in enumerate(kinds)]
    return TerminalTable(columns, keys=draw(st.integers(0, 1)))


def plain(table, width):
    return [line.plain for line in table.lines(width)]


@given(tables(), st.integers(30, 130))
def test_no_line_is_too_long_and_every_value_is_whole_or_its_column_named(table, width):
    lines = plain(table, width)
    assert all(cell_len(line) <= width and line == line.rstrip() for line in lines)
    text = "\n".join(lines)
    left_out = re.search(r"Left out at \d+ columns: (.*)\.", " ".join(text.split()))
    named = left_out[1].split(", ") if left_out else []
    for column in table.columns:
        assert column.name in text
        for cell in column.cells:
            values = re.findall(r"\[[^]]*\]|-?\d[\d.]*", cell) if column.text else [cell]
            missing = [one for one in values if not re.search(rf"(?<![\w.-]){re.escape(one)}(?![\w.])", text)]
            assert not missing or column.name in named


@given(tables())
def test_without_an_end_a_row_is_a_line(table):
    assert len(plain(table, 10**6)) == 1 + len(table.columns[0].cells)


def test_texts_give_way_first():
    table = TerminalTable(
        [Column("layer", ["3"], right=True), Column("note", ["the mean over all of the layers"], text=True)]
    )
    assert plain(table, 40) == ["layer  note", "    3  the mean over all of the layers"]
    assert plain(table, 28) == ["layer  note", "    3  the mean over all of", "       the layers"]


def test_spare_columns_are_left_out_by_name():
    columns = [Column("layer", ["3"]), Column("depth", ["0.25"], spare=True), Column("average", ["0.512 [0.41, 0.62]"])]
    assert plain(TerminalTable(columns), 30) == [
        "layer  average",
        "3      0.512 [0.41, 0.62]",
        "Left out at 30 columns: depth.",
    ]


def test_columns_that_do_not_fit_stand_below_with_the_key_and_without_empty_rows():
    columns = [
        Column("way", ["last", "best"]),
        Column("minus last", ["0.512 [0.41, 0.62]"] * 2),
        Column("p", ["", "0.125"]),
    ]
    assert plain(TerminalTable(columns), 25) == [
        "way   minus last",
        "last  0.512 [0.41, 0.62]",
        "best  0.512 [0.41, 0.62]",
        "",
        "way   p",
        "best  0.125",
        "In 2 tables at 25",
        "columns; moved down: p.",
    ]


def test_without_a_key_rows_lie_on_their_side():
    columns = [Column("layer", ["3", "4"]), Column("n", ["1024"] * 2), Column("value", ["0.512 [0.41, 0.62]"] * 2)]
    assert plain(TerminalTable(columns, keys=0), 26)[:7] == [
        "layer  3",
        "n      1024",
        "value  0.512 [0.41, 0.62]",
        "",
        "layer  4",
        "n      1024",
        "value  0.512 [0.41, 0.62]",
    ]
    assert plain(TerminalTable(columns, keys=0), 60)[0] == "layer  n     value"


def test_a_value_too_long_to_stand_beside_its_name_has_a_line_of_its_own():
    path = "/somewhere/models/smollm2-135m"
    lines = plain(TerminalTable([Column("model", [path], text=True), Column("value", ["0.51 [0.4, 0.6]"])], keys=0), 34)
    assert lines[:3] == ["model", f"  {path}", "value  0.51 [0.4, 0.6]"]


def test_headings_break_between_words_and_never_within_brackets():
    column = Column("minus the best layer [95 %]", ["0.1"])
    assert [line.strip() for line in plain(TerminalTable([column]), 12)[:3]] == ["minus the", "best layer", "[95 %]"]


@pytest.mark.parametrize(
    ("text", "width", "lines"),
    [
        ("ahead by 0.801 [0.793, 0.809].", 20, ["ahead by 0.801", "[0.793, 0.809]."]),
        ("range [0, log min(T, D)]", 20, ["range", "[0, log min(T, D)]"]),
        (
            "(long remarks in brackets may be broken over lines)",
            30,
            ["(long remarks in brackets may", "be broken over lines)"],
        ),
        ("EleutherAI/pythia-410m-deduped", 16, ["EleutherAI/", "pythia-410m-", "deduped"]),
        ("", 9, [""]),
    ],
)
def test_where_lines_break(text, width, lines):
    assert wrapped(text, width) == lines


def test_wide_characters_count_as_two():
    assert wrapped("漢字 漢字", 5) == ["漢字", "漢字"]


@pytest.mark.parametrize("width", [60, 12])
def test_cells_behind_wide_characters_stand_in_one_column(width):
    names = ["漢字", "abcd", "é"]
    lines = plain(TerminalTable([Column("text", names, text=True), Column("n", ["1", "2", "3"], right=True)]), width)
    assert [cell_len(line[: line.rindex(number)]) for line, number in zip(lines[1:4], "123", strict=True)] == [6] * 3
