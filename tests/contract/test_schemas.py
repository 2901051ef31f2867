"""Columns of the tables that jobs write."""

from __future__ import annotations

import pyarrow as pa

from pool3.features.schema import feature_schema
from tests.contract.pinned import check, section
from udfs.duplicates import DUPLICATE_SCHEMA
from udfs.search import ANSWER_SCHEMA


def test_tables_have_the_columns_on_record() -> None:
    meta = pa.struct([pa.field("label", pa.string())])
    text = section("feature table", _columns(feature_schema(None)))
    text += section("feature table, inputs with a column label", _columns(feature_schema(meta)))
    text += section("answers of search-batch", _columns(ANSWER_SCHEMA))
    text += section("clusters of find-duplicates", _columns(DUPLICATE_SCHEMA))
    check("tables.txt", text)


def _columns(schema: pa.Schema) -> list[str]:
    return [
        f"{column.name}: {column.type}{'' if column.nullable else ', never null'}"
        for column in schema
    ]
