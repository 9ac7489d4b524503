"""Damaged text files: refused in one line, or read as plain readers read them."""

from __future__ import annotations

import csv
import io
import json

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fuzz.mutations import attempt, damaged, full_and_slice, fuzzed

from layerscope.config import TextSpec
from layerscope.inputs.texts import TextSet, load_texts

pytestmark = pytest.mark.filterwarnings("ignore:Generating overly large repr")

LINES = ["one text", "", "a caf\u00e9 \u6f22\u5b57", "  spaces  ", "tab\tand , comma", '"quoted"']
TXT = "\r\n".join(LINES).encode()
JSONL = "\n".join(json.dumps({"id": n, "text": line, "label": n % 2}) for n, line in enumerate(LINES)).encode()
CSV = b'id,text,label\n1,one text,a\n2,"two\nlines, ""quoted""",b\n\n3,caf\xc3\xa9,\n'


def read(path, **options) -> TextSet | None:
    """The texts; read in one go and one by one they are the same."""

    def both():
        found = load_texts(TextSpec(source=str(path), **options))
        texts = list(found.texts)
        assert texts == found.take(range(len(texts)))
        assert [text.id for text in texts] == list(found.ids())
        return texts, dict(found.skipped)

    return attempt(both)


def is_text(cell) -> bool:
    """Whether a cell can be a prompt."""
    return isinstance(cell, str) and bool(cell.strip()) and not any("\ud800" <= sign <= "\udfff" for sign in cell)


@full_and_slice(1500, 30)
def test_lines(tmp_path, cases):
    path = tmp_path / "a.txt"

    @fuzzed(cases)
    @given(st.one_of(damaged(TXT), st.binary(max_size=200)))
    def check(content):
        path.write_bytes(content)
        found = read(path)
        if found is not None:
            lines = content.decode("utf-8-sig").split("\n")
            lines = [line.removesuffix("\r") for line in (lines[:-1] if lines[-1] == "" else lines)]
            assert [text.text for text in found[0]] == [line for line in lines if is_text(line)]
            assert len(found[0]) + len(found[1]) == len(lines)

    check()


@full_and_slice(1500, 30)
def test_json_lines(tmp_path, cases):
    path = tmp_path / "a.jsonl"

    @fuzzed(cases)
    @given(st.one_of(damaged(JSONL), st.binary(max_size=200)))
    def check(content):
        path.write_bytes(content)
        found = read(path, column="text")
        if found is not None:
            lines = content.decode("utf-8-sig").split("\n")
            cells = [json.loads(line).get("text") for line in lines if line.strip()]
            assert [text.text for text in found[0]] == [cell for cell in cells if is_text(cell)]
            assert len(found[0]) + len(found[1]) == len(cells)

    check()


@full_and_slice(1500, 30)
def test_comma_separated(tmp_path, cases):
    path = tmp_path / "a.csv"

    @fuzzed(cases)
    @given(st.one_of(damaged(CSV), st.binary(max_size=200)))
    def check(content):
        path.write_bytes(content)
        found = read(path, column="text")
        if found is not None:
            text = content.decode("utf-8-sig")
            names, *rows = [row for row in csv.reader(io.StringIO(text, newline=""), strict=True) if row]
            cells = [row[names.index("text")] for row in rows]
            assert [text.text for text in found[0]] == [cell for cell in cells if is_text(cell)]
            assert len(found[0]) + len(found[1]) == len(cells)

    check()


@full_and_slice(1500, 30)
def test_parquet(tmp_path, cases):
    path = tmp_path / "a.parquet"
    frame = pl.DataFrame(
        {"id": range(40), "text": [f"text number {n % 7}" for n in range(40)], "label": ["a", "b"] * 20}
    )
    frame.write_parquet(path, row_group_size=15, compression="uncompressed")

    @fuzzed(cases)
    @given(st.one_of(damaged(path.read_bytes()), st.binary(max_size=200)))
    def check(content):
        (tmp_path / "b.parquet").write_bytes(content)
        read(tmp_path / "b.parquet", column="text")

    check()
