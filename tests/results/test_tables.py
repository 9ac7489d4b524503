"""Tables: round trip, and errors that name the damaged file."""

import polars as pl
import pytest

from layerscope.errors import DamagedError, UserError
from layerscope.results.tables import LAYERS, PROMPTS, read_table, write_table


def rows(schema, n):
    numbers = {pl.String: "a", pl.Int32: 3, pl.Float64: 0.5}
    return pl.DataFrame([{name: numbers[kind.base_type()] for name, kind in schema.items()}] * n, schema=schema)


@pytest.mark.parametrize("schema", [LAYERS, PROMPTS])
def test_round_trip_in_parts(tmp_path, schema):
    parts = [rows(schema, 2), rows(schema, 3)]
    write_table(parts, schema, tmp_path / "t.parquet")
    assert read_table(tmp_path / "t.parquet", schema, "measure again").equals(pl.concat(parts))


def test_null_and_nan_survive(tmp_path):
    table = rows(PROMPTS, 2).with_columns(
        value=pl.Series([float("nan"), 1.0]), alpha=pl.Series([None, 1.0], dtype=pl.Float64)
    )
    write_table([table], PROMPTS, tmp_path / "t.parquet")
    read = read_table(tmp_path / "t.parquet", PROMPTS, "measure again")
    assert read["value"].is_nan().to_list() == [True, False]
    assert read["alpha"].to_list() == [None, 1.0]


def test_a_truncated_file_is_named(tmp_path):
    path = tmp_path / "layers.parquet"
    write_table([rows(LAYERS, 50)], LAYERS, path)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DamagedError, match=r"layers\.parquet is no whole Parquet file .*: measure again"):
        read_table(path, LAYERS, "measure again")


def test_a_missing_column_is_named(tmp_path):
    rows(LAYERS, 2).drop("unit").write_parquet(tmp_path / "layers.parquet")
    with pytest.raises(DamagedError, match="columns missing: unit"):
        read_table(tmp_path / "layers.parquet", LAYERS, "measure again")


def test_a_missing_file_is_the_users_mistake(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        read_table(tmp_path / "layers.parquet", LAYERS, "measure again")
