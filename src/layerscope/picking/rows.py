"""A table as a field of a pydantic model: rows in JSON, a DataFrame in Python."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import polars as pl
from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema


@dataclass(frozen=True)
class AsRows:
    """Annotates a DataFrame of this schema. JSON has no NaN: a number that could not be had comes back as null."""

    schema: pl.Schema

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        """What pydantic asks of an annotation."""
        written = core_schema.plain_serializer_function_ser_schema(_rows, when_used="json")
        return core_schema.no_info_plain_validator_function(self._table, serialization=written)

    def _table(self, rows: object) -> pl.DataFrame:
        if isinstance(rows, pl.DataFrame):
            return rows
        try:
            return pl.DataFrame(rows, schema=self.schema)  # type: ignore[arg-type]
        except (pl.exceptions.PolarsError, TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"expected the rows of a table: {error}") from error


def _rows(table: pl.DataFrame) -> list[dict[str, Any]]:
    return table.fill_nan(None).to_dicts()
