"""Options of extract-features that are wrong are told before anything is read."""

from __future__ import annotations

from typing import Any

import pytest

from jobs.options.extract_features import ExtractConfig, arg_parser
from pool3.errors import UsageError

GIVEN = {"input": "photos", "output": "/lake/table"}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"output": "hdfs://name-node:8020/table"}, "--output in a bucket or a local folder"),
        ({"output": "ftp://x/y"}, "ftp"),
        ({"batch_size": 0}, "--batch-size of at least 1, found 0"),
        ({"max_gone": 1.5}, "--max-gone between 0 and 1, found 1.5"),
        ({"mode": "again"}, "--mode to be one of incremental, overwrite, retry-failed"),
        ({"on_duplicate": "first"}, "--on-duplicate to be one of error, last"),
        ({"prune": True}, "--prune-scope"),
        ({"prune": True, "prune_scope": "/lake", "limit": 3}, "the whole input"),
        ({"input_where": "x > 1"}, "--input-where"),
        ({"input_columns": "uri"}, "--input-columns"),
    ],
)
def test_wrong_options_are_told(options: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        ExtractConfig(**{**GIVEN, **options})


def test_every_option_of_the_command_line_is_one_of_the_configuration() -> None:
    words = ["--input", "a", "--input", "b.csv", "--input-columns", "uri, label", "--output", "t"]
    words += ["--uri-column", "uri", "--allow-uri", "/d", "--max-failed", "0.5", "--plan"]
    config = ExtractConfig(**vars(arg_parser().parse_args(words)))
    assert config.input_options().inputs == ("a", "b.csv")
    assert config.input_options().csv_columns == ("uri", "label")
    assert (config.max_failed, config.plan, config.mode) == (0.5, True, "incremental")
