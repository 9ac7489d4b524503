"""Reading .txt, .jsonl, .csv and .parquet: every row is read, and every error names its place."""

import json
import string

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from layerscope.errors import UserError
from layerscope.inputs.files import choose_column, file_revision, open_table, table_of_rows

LINE = st.text(st.characters(exclude_characters="\n\r", exclude_categories=["Cs"]))
CELL = st.text(st.characters(exclude_categories=["Cs"]))


@pytest.fixture
def write(tmp_path):
    def write(name, content):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
        return path

    return write


def cells(path, column="text", limit=None):
    return list(open_table(path, limit).column(column))


def ids(table):
    return [table.id(place) for place in range(len(table.numbers))]


@settings(max_examples=50, deadline=None)
@given(lines=st.lists(LINE, min_size=1), end=st.sampled_from(["\n", "\r\n"]))
def test_txt_gives_back_the_lines_that_were_written(tmp_path_factory, lines, end):
    path = tmp_path_factory.mktemp("txt") / "a.txt"
    # a file that begins with U+FEFF begins with a byte order mark
    path.write_bytes("".join(line + end for line in lines).encode("utf-8-sig"))
    assert cells(path) == lines


@settings(max_examples=50, deadline=None)
@given(texts=st.lists(CELL, min_size=1))
def test_jsonl_and_csv_give_back_the_cells_that_were_written(tmp_path_factory, texts):
    folder = tmp_path_factory.mktemp("tables")
    (folder / "a.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    assert cells(folder / "a.jsonl") == texts
    quoted = "".join('{},"{}"\n'.format(number, text.replace('"', '""')) for number, text in enumerate(texts))
    (folder / "a.csv").write_bytes(("id,text\n" + quoted).encode("utf-8"))
    assert cells(folder / "a.csv") == texts


def test_parquet_gives_back_its_text_and_knows_its_text_columns(tmp_path):
    frame = pl.DataFrame(
        {"id": [1, 2, 3], "text": ["a", None, "c\nd"], "kind": pl.Series(["x", "x", "y"], dtype=pl.Categorical)}
    )
    frame.write_parquet(tmp_path / "a.parquet")
    table = open_table(tmp_path / "a.parquet")
    assert table.names == ("id", "text", "kind")
    assert table.textual == ("text", "kind")
    assert list(table.column("text")) == ["a", None, "c\nd"]
    assert list(table.column("kind")) == ["x", "x", "y"]
    assert ids(table) == ["row-1", "row-2", "row-3"]


def test_only_a_line_feed_ends_a_line(write):
    assert cells(write("a.txt", "one\x0btwo\u2028three\x85four\nfive")) == ["one\x0btwo\u2028three\x85four", "five"]


def test_line_numbers_are_the_files_own(write):
    table = open_table(write("a.jsonl", '{"text": "a"}\n\n{"text": "b"}\n'))
    assert ids(table) == ["line-1", "line-3"]
    assert ids(open_table(write("a.txt", "a\n\nb"))) == ["line-1", "line-2", "line-3"]


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.txt", "a\nb\nc\n"), ("a.jsonl", '{"text": "a"}\n{"text": "b"}\nnot json'), ("a.csv", "text\na\nb\nc\n")],
)
def test_no_more_rows_are_read_than_asked(write, name, content):
    assert cells(write(name, content), limit=2) == ["a", "b"]


def test_no_more_parquet_rows_are_read_than_asked(tmp_path):
    pl.DataFrame({"text": ["a", "b", "c"]}).write_parquet(tmp_path / "a.parquet")
    assert cells(tmp_path / "a.parquet", limit=2) == ["a", "b"]


def test_a_byte_order_mark_is_no_part_of_the_first_column(write):
    assert open_table(write("a.csv", b"\xef\xbb\xbfid,text\n1,caf\xc3\xa9\n")).names == ("id", "text")


def test_a_csv_text_may_be_long_hold_line_breaks_and_look_like_a_missing_value(write):
    text = "x" * 100_000
    path = write("a.csv", f'id,text\r\n1,{text}\r\n2,"a, ""b""\r\nc"\r\n3,NA\r\n4,\r\n')
    assert cells(path) == [text, 'a, "b"\r\nc', "NA", ""]


def test_a_csv_column_of_numbers_is_not_one_with_text(write):
    assert open_table(write("a.csv", "id,score,text\n1,2.5,hello\n2,,7\n")).textual == ("text",)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "", r"a\.txt': the file is empty"),
        ("a.txt", b"ok\ncaf\xe9\n", r"expected UTF-8, but line 2 \(byte offset 6\) holds byte 0xe9"),
        ("a.txt", b"\xef\xbb\xbfok\ncaf\xe9\n", r"line 2 \(byte offset 9\) holds byte 0xe9"),
        ("a.txt", "hi".encode("utf-16"), "the file is UTF-16: save it as UTF-8"),
        ("a.jsonl", "\n\n", "holds no rows"),
        ("a.jsonl", '{"text": "a"}\n{"text": \n', r"line 2 is not JSON \(Expecting value at column 10\)"),
        ("a.jsonl", "[" * 100_000, "line 1 is not JSON"),
        ("a.jsonl", '{"text": "a"}\n["b"]\n', r'such as \{"text": "..."\}, but line 2 holds a JSON array'),
        ("a.jsonl", "3\n", "holds a JSON number"),
        ("a.jsonl", '"b"\n', "holds a JSON string"),
        ("a.jsonl", "null\n", "holds a JSON null"),
        ("a.jsonl", "true\n", "holds a JSON boolean"),
        ("a.csv", "id,text\n", "holds no rows"),
        ("a.csv", "\n\n", "holds no rows"),
        ("a.csv", "id,text\n1,a\n2,b,c\n", "expected 2 fields in every row.* ends on line 3 has 3"),
        ("a.csv", "id,text\n1,a\n2\n", "ends on line 3 has 1"),
        ("a.csv", 'id,text\n1,"a\n2,b\n', "ends on line 3 is not CSV .unexpected end of data."),
        ("a.csv", 'id,text\n1,"a"b\n', "ends on line 2 is not CSV"),
        ("a.csv", "a,a\n1,2\n", "names the column 'a' more than once"),
        ("a.csv", f"text\n{'x' * 200_000}\n", "use .jsonl for texts of more than 131,072 characters"),
        ("a.parquet", b"PAR1", "expected a Parquet file, but it cannot be read"),
    ],
)
def test_errors_say_what_came_and_where(write, name, content, message):
    with pytest.raises(UserError, match=message):
        open_table(write(name, content))


def test_a_file_that_is_not_there_or_a_folder_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"none\.txt does not exist: check the path"):
        open_table(tmp_path / "none.txt")
    (tmp_path / "dir.txt").mkdir()
    with pytest.raises(UserError, match=r"dir\.txt is a folder: expected a file"):
        open_table(tmp_path / "dir.txt")


@pytest.mark.parametrize("cut", [0.2, 0.5, 0.97])
def test_a_parquet_file_that_is_cut_off_is_refused(tmp_path, cut):
    pl.DataFrame({"text": [string.ascii_letters * 20] * 50}).write_parquet(tmp_path / "a.parquet")
    whole = (tmp_path / "a.parquet").read_bytes()
    (tmp_path / "b.parquet").write_bytes(whole[: int(cut * len(whole))])
    with pytest.raises(UserError, match="it may be cut off"):
        open_table(tmp_path / "b.parquet")


def test_a_parquet_file_with_broken_pages_is_refused(tmp_path):
    pl.DataFrame({"text": [f"{number} {string.ascii_letters}" for number in range(200)]}).write_parquet(
        tmp_path / "a.parquet"
    )
    data = bytearray((tmp_path / "a.parquet").read_bytes())
    data[4:400] = b"\xff" * 396
    (tmp_path / "a.parquet").write_bytes(data)
    with pytest.raises(UserError, match="it may be cut off"):
        cells(tmp_path / "a.parquet")


def table(**columns):
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return table_of_rows("t", rows)


@pytest.mark.parametrize(
    ("columns", "wanted", "expected"),
    [
        ({"text": ["a"], "title": ["b"]}, None, "text"),
        ({"id": [1], "body": ["b"]}, None, "body"),
        ({"id": [1, 2], "body": [None, "b"]}, None, "body"),
        ({"text": ["a"], "title": ["b"]}, "title", "title"),
    ],
)
def test_the_column_is_the_wanted_one_else_text_else_the_only_one(columns, wanted, expected):
    assert choose_column(table(**columns), wanted) == expected


@pytest.mark.parametrize(
    ("columns", "wanted", "message"),
    [
        ({"a": ["x"], "b": ["y"]}, None, r"several columns with text and none is named 'text' \('a', 'b'\)"),
        ({"id": [1]}, None, r"no column with text \(columns: 'id'\)"),
        ({"id": [1], "body": ["y"]}, "bdy", r"no column 'bdy' \(columns: 'id', 'body'\): did you mean 'body'"),
        ({"id": [1], "body": ["y"]}, "id", r"column 'id' of texts 't' holds no text \(columns with text: 'body'\)"),
    ],
)
def test_a_column_that_cannot_be_chosen_is_refused_with_the_list(columns, wanted, message):
    with pytest.raises(UserError, match=message):
        choose_column(table(**columns), wanted)


def test_rows_with_different_keys_have_the_columns_of_all():
    mixed = table_of_rows("t", [{"a": "x"}, {"b": 1, "a": None}])
    assert mixed.names == ("a", "b")
    assert mixed.textual == ("a",)
    assert list(mixed.column("b")) == [None, 1]


def test_the_revision_is_the_hash_of_the_file(write):
    # printf abc | sha256sum
    assert file_revision(write("a.txt", "abc")) == "sha256:ba7816bf8f01"
