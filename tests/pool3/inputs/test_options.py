"""Incomplete or contradictory options are errors before anything is read."""

from __future__ import annotations

from typing import Any

import pytest

from pool3.errors import UsageError
from pool3.inputs import InputOptions

TABLE = {"inputs": ("t.parquet",), "uri_column": "uri", "allow_uri": ("/data",)}


def test_folders_and_tables_are_distinguished() -> None:
    assert not InputOptions(inputs=("a", "b"), glob="*.jpg").tables
    assert InputOptions(**TABLE).tables
    assert InputOptions(input_table="lake.photos", uri_column="u", allow_uri=("/",)).tables
    assert InputOptions(inputs=("t",), content_column="bytes", id_column="id").columns() == {
        "id": "id",
        "content": "bytes",
    }
    assert InputOptions(inputs=("/a/b",), id_from="relative:/a/").base == "/a"


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({}, "--input-table"),
        ({"inputs": ("a",), "input_table": "t"}, "both"),
        ({"inputs": ("ftp://a",)}, "ftp"),
        ({"inputs": ("a",), "where": "x > 1"}, "--input-where"),
        ({"inputs": ("a",), "allow_uri": ("/",)}, "--allow-uri"),
        ({"inputs": ("a",), "csv_columns": ("uri",)}, "--input-columns"),
        ({**TABLE, "csv_columns": ("uri", "uri")}, "'uri' 2 times"),
        ({**TABLE, "csv_columns": ("uri", "")}, "'' 1 times"),
        (
            {"input_table": "t", "uri_column": "u", "allow_uri": ("/",), "csv_columns": ("u",)},
            "--input-table",
        ),
        ({"inputs": ("/a",), "id_from": "relative:/b"}, "base"),
        ({"inputs": ("/a",), "id_from": "name"}, "relative:BASE"),
        ({"inputs": ("t",), "uri_column": "u"}, "--allow-uri"),
        ({"inputs": ("t",), "id_column": "u"}, "--content-column"),
        ({"inputs": ("t",), "content_column": "u"}, "--id-column"),
        ({"input_table": "t"}, "--uri-column"),
        ({**TABLE, "id_column": "uri"}, "uri named 2 times"),
        ({**TABLE, "id_column": "id", "id_from": "relative:/a"}, "--id-from"),
        ({**TABLE, "allow_uri": ("ftp://x",)}, "ftp"),
        ({"input_table": "t", "uri_column": "u", "allow_uri": ("/",), "glob": "*"}, "--glob"),
    ],
)
def test_wrong_options_are_errors(options: dict[str, Any], named: str) -> None:
    with pytest.raises(UsageError, match=named):
        InputOptions(**options)
