"""Comma-separated files, and those that are separated otherwise or have no header: never read as something they are not."""

from __future__ import annotations

import pytest

from layerscope.config import TextSpec
from layerscope.errors import UserError
from layerscope.inputs.csv_files import FileLine, csv_layout, csv_rows
from layerscope.inputs.files import open_table
from layerscope.inputs.texts import load_texts


@pytest.fixture
def load(tmp_path):
    """load(content, ...): the texts of a .csv with that content."""

    def read(content, **options):
        path = tmp_path / "a.csv"
        path.write_text(content, encoding="utf-8")
        return [text.text for text in load_texts(TextSpec(source=str(path), **options)).texts]

    return read


@pytest.mark.parametrize(
    ("sign", "name", "shown"),
    [(";", "semicolon", "';'"), ("\t", "tab", "a tab"), ("|", "|", r"'\|'")],
)
def test_another_separator_is_named_with_its_option(load, sign, name, shown):
    content = f"text{sign}label\nw5, w6{sign}1\nw7{sign}2,5\n"
    with pytest.raises(
        UserError, match=rf"every row looks like 2 fields separated by {shown}: give --separator"
    ) as error:
        load(content)
    assert f"give --separator {name}, or save it with commas" in str(error.value)
    assert load(content, separator=name) == load(content, separator=sign) == ["w5, w6", "w7"]


def test_where_the_user_has_no_say_the_option_is_not_named(tmp_path):
    (tmp_path / "questions.csv").write_text("subject;question\na;b\n")
    with pytest.raises(UserError, match=r"separated by ';': save it with commas$"):
        open_table(tmp_path / "questions.csv")


@pytest.mark.parametrize(
    "content",
    [
        "text\na;b\nc\n",
        "text\none, two\n".replace(", ", " "),
        'text,label\n"a;b",c;d\n"e;f",g;h\n',
        "text\na|b\nc|d|e\n",
    ],
)
def test_signs_within_texts_are_no_separator(load, content):
    assert load(content)


def test_commas_can_be_insisted_on(load):
    content = "text; and more\na;b\nc;d\n"
    with pytest.raises(UserError, match="if they are commas, --separator comma"):
        load(content)
    assert load(content, separator="comma", column="text; and more") == ["a;b", "c;d"]


@pytest.mark.parametrize(
    ("content", "texts"),
    [
        ("how do I top up,1\nmy card is lost,2\nit was stolen yesterday,1\n", 3),
        ("How do I top up?\nMy card is lost.\n", 2),
        ("good\nbad\ngood\n", 3),
        ("17,w5 w6\n18,w7\n", 2),
        ("I love it so,positive\nnot for me,negative\nwell done,positive\n", None),
    ],
)
def test_a_first_row_that_is_no_header_is_refused_and_read_with_the_option(load, content, texts):
    with pytest.raises(UserError, match=r"first row looks like a row .*give --no-header .*or --column"):
        load(content)
    if texts is None:
        with pytest.raises(UserError, match=r"several columns with text .*'column-1', 'column-2'"):
            load(content, no_header=True)
        assert load(content, no_header=True, column="column-1")[0] == "I love it so"
    else:
        assert len(load(content, no_header=True)) == texts


@pytest.mark.parametrize(
    "content",
    [
        "text\ntext\n",
        "text,2023\na,1\n",
        "id,Complaint narrative\n1,the card that I was sent did not work\n2,I was charged a fee twice\n",
        "body\nw5 w6\nw7\n",
        ",body\n0,w5\n1,w6 w7\n",
        "customer_message\na b c\nd e\n",
    ],
)
def test_a_header_is_taken_for_one(load, content):
    assert load(content)


def test_a_column_that_is_named_is_believed(load):
    content = "what did you like?\nthe food was good\n"
    assert load(content, column="what did you like?") == ["the food was good"]


@pytest.mark.parametrize("sign", ["", "ab", '"', "\n"])
def test_a_separator_is_one_character_or_a_name(sign):
    with pytest.raises(UserError, match="expected comma, semicolon, tab or one character"):
        csv_layout(sign, header=True)


@pytest.mark.parametrize("source", ["{folder}/a.txt", "wiki", "hub:org/name"])
@pytest.mark.parametrize("option", [{"separator": "tab"}, {"no_header": True}])
def test_layout_is_for_csv_files(tmp_path, source, option):
    (tmp_path / "a.txt").write_text("a\n")
    with pytest.raises(UserError, match=r"separator and no_header are for \.csv files"):
        load_texts(TextSpec(source=source.format(folder=tmp_path), **option))


def test_rows_without_a_header_count_from_the_first():
    lines = iter([FileLine(0, 1, "a,b\n"), FileLine(4, 2, "c,d\n")])
    rows = csv_rows("t", csv_layout(None, header=False))(lines)
    named = ({"column-1": one, "column-2": other} for one, other in ("ab", "cd"))
    assert list(rows) == [(0, 1, next(named)), (4, 2, next(named))]
