"""Tables of texts from local files: .txt, .jsonl, .csv and .parquet, with errors that name the place."""

from __future__ import annotations

import codecs
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from layerscope.errors import UserError, nearest
from layerscope.inputs.csv_files import CsvLayout, is_textual, read_csv

SUFFIXES = (".txt", ".jsonl", ".csv", ".parquet")


@dataclass(frozen=True)
class Table:
    """Rows with an id each. `textual` are the columns that hold text; `cells` reads one column when asked."""

    source: str
    ids: tuple[str, ...]
    names: tuple[str, ...]
    textual: tuple[str, ...]
    cells: Callable[[str], Sequence[object]]


def read_table(path: Path, limit: int | None = None, layout: CsvLayout | None = None) -> Table:
    """Read a file into a table.

    A .txt has one text a line in the column `text`; only line feeds end a line (and a carriage return before one is
    dropped), so texts may hold other separators. A .jsonl has one object a line; blank lines between are allowed. A
    .csv has a header, commas, and every row as many fields, or what `layout` says. Row ids are `line-N` or `row-N`, from
    1.

    Args:
        path: the file.
        limit: read at most this many rows; None reads all.
        layout: of a .csv; None where the user has no say in it.

    Raises:
        UserError: the file is missing, empty, not UTF-8, or not what its suffix says.
    """
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise UserError(f"texts {str(path)!r}: expected a file, but it {what}: check the path")
    try:
        if path.stat().st_size == 0:
            raise UserError(f"texts {str(path)!r}: the file is empty: give one with texts")
        suffix = path.suffix.lower()
        if suffix != ".csv" and layout not in (None, CsvLayout()):
            raise UserError(f"texts {str(path)!r}: separator and no_header are for .csv files: leave them out")
        table = _read_csv(path, limit, layout) if suffix == ".csv" else _READERS[suffix](path, limit)
    except OSError as error:
        raise UserError(f"texts {str(path)!r}: the file cannot be read ({error.strerror or error})") from error
    if not table.ids:
        raise UserError(f"texts {str(path)!r}: the file holds no rows: give one with texts")
    return table


def table_of_rows(source: str, rows: Sequence[Mapping[str, object]], ids: Sequence[str]) -> Table:
    """A table of records; the columns are all keys in the order they are met, and a missing key reads as None."""
    names: dict[str, bool] = {}
    for row in rows:
        for name, cell in row.items():
            names[name] = names.get(name, False) or isinstance(cell, str)
    return Table(
        source=source,
        ids=tuple(ids),
        names=tuple(names),
        textual=tuple(name for name, textual in names.items() if textual),
        cells=lambda name: [row.get(name) for row in rows],
    )


def choose_column(table: Table, wanted: str | None) -> str:
    """The column that holds the texts: the wanted one, else `text`, else the only column with text.

    Raises:
        UserError: the column is not there or holds no text, or the choice is not clear; the message lists the columns.
    """
    have = ", ".join(repr(name) for name in table.names) or "none"
    if wanted is not None:
        if wanted not in table.names:
            close = nearest(wanted, table.names, most=1)
            hint = f"did you mean {close[0]!r}?" if close else "choose one of them"
            raise UserError(f"texts {table.source!r} have no column {wanted!r} (columns: {have}): {hint}")
        if wanted not in table.textual:
            raise UserError(
                f"column {wanted!r} of texts {table.source!r} holds no text "
                f"(columns with text: {', '.join(map(repr, table.textual)) or 'none'}): choose another column"
            )
        return wanted
    if "text" in table.textual:
        return "text"
    if len(table.textual) == 1:
        return table.textual[0]
    if not table.textual:
        raise UserError(f"texts {table.source!r} have no column with text (columns: {have}): give other texts")
    raise UserError(
        f"texts {table.source!r} have several columns with text and none is named 'text' "
        f"({', '.join(map(repr, table.textual))}): choose one with the column option"
    )


def file_revision(path: Path) -> str:
    """The start of the file's hash, such as `sha256:0123456789ab`.

    Raises:
        UserError: there is no such file, or it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()[:12]}"
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror or error}): check the path") from error


def _decode(path: Path) -> str:
    data = path.read_bytes()
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise UserError(f"texts {str(path)!r}: expected UTF-8, but the file is UTF-16: save it as UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # the codec counts from behind a byte order mark
        offset = error.start + (3 if data.startswith(codecs.BOM_UTF8) else 0)
        line = data.count(b"\n", 0, offset) + 1
        raise UserError(
            f"texts {str(path)!r}: expected UTF-8, but line {line} (byte offset {offset}) holds byte "
            f"0x{data[offset]:02x}: save the file as UTF-8"
        ) from error


def _lines(path: Path) -> list[str]:
    lines = _decode(path).split("\n")
    if lines[-1] == "":
        lines.pop()
    return [line.removesuffix("\r") for line in lines]


def _read_txt(path: Path, limit: int | None) -> Table:
    lines = _lines(path)[:limit]
    return Table(
        source=str(path),
        ids=tuple(f"line-{number}" for number in range(1, len(lines) + 1)),
        names=("text",),
        textual=("text",),
        cells=lambda _: lines,
    )


def _read_jsonl(path: Path, limit: int | None) -> Table:
    rows: list[dict[str, object]] = []
    ids: list[str] = []
    for number, line in enumerate(_lines(path), 1):
        if limit is not None and len(rows) == limit:
            break
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            what = f"{error.msg} at column {error.colno}" if isinstance(error, json.JSONDecodeError) else str(error)
            raise UserError(
                f"texts {str(path)!r}: expected one JSON object a line, but line {number} is not JSON ({what}): "
                f"mend or remove it"
            ) from error
        if not isinstance(row, dict):
            raise UserError(
                f'texts {str(path)!r}: expected one JSON object a line, such as {{"text": "..."}}, but line '
                f"{number} holds a JSON {_json_type(row)}"
            )
        rows.append(row)
        ids.append(f"line-{number}")
    return table_of_rows(str(path), rows, ids)


def _json_type(value: object) -> str:
    names = {list: "array", str: "string", bool: "boolean", type(None): "null"}
    return names.get(type(value), "number")


def _read_csv(path: Path, limit: int | None, layout: CsvLayout | None) -> Table:
    names, rows = read_csv(str(path), _decode(path), limit, layout)
    columns = {name: [row[position] for row in rows] for position, name in enumerate(names)}
    return Table(
        source=str(path),
        ids=tuple(f"row-{number}" for number in range(1, len(rows) + 1)),
        names=tuple(names),
        # a .csv has no types: a column of numbers only is not one with text
        textual=tuple(name for name in names if any(is_textual(cell) for cell in columns[name])),
        cells=lambda name: columns[name],
    )


def _read_parquet(path: Path, limit: int | None) -> Table:
    import pyarrow
    import pyarrow.parquet

    def cells(name: str) -> list[object]:
        try:
            column = pyarrow.parquet.read_table(path, columns=[name]).column(0)
        except (pyarrow.ArrowException, OSError) as error:
            raise _broken_parquet(path, error) from error
        return column[:limit].to_pylist()  # type: ignore[no-any-return]

    try:
        metadata = pyarrow.parquet.ParquetFile(path)
        schema, total = metadata.schema_arrow, metadata.metadata.num_rows
    except (pyarrow.ArrowException, OSError) as error:
        raise _broken_parquet(path, error) from error
    rows = total if limit is None else min(limit, total)
    return Table(
        source=str(path),
        ids=tuple(f"row-{number}" for number in range(1, rows + 1)),
        names=tuple(schema.names),
        textual=tuple(field.name for field in schema if _is_string(field.type)),
        cells=cells,
    )


def _is_string(kind: Any) -> bool:  # noqa: ANN401
    import pyarrow

    value = kind.value_type if pyarrow.types.is_dictionary(kind) else kind
    return bool(
        pyarrow.types.is_string(value) or pyarrow.types.is_large_string(value) or pyarrow.types.is_string_view(value)
    )


def _broken_parquet(path: Path, error: Exception) -> UserError:
    return UserError(
        f"texts {str(path)!r}: expected a Parquet file, but it cannot be read ({_first(error)}): "
        f"it may be cut off or of another format, so copy it again"
    )


def _first(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".:") if lines else type(error).__name__


_READERS: dict[str, Callable[[Path, int | None], Table]] = {
    ".txt": _read_txt,
    ".jsonl": _read_jsonl,
    ".parquet": _read_parquet,
}
