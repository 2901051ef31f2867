"""Colour profiles in an extraction and in queries: prepared alike, as the model says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from pyspark.sql.pandas.types import to_arrow_schema

from pool3.extract.task_summary import TaskSummary
from pool3.images.profiles import COLOURS, SRGB
from tests.jobs.colour_model import SIDE
from tests.pool3.images.test_profiles import P3, grey_profile, matrix_profile, p3_of
from tests.udfs.arrow import in_batches, rows, summaries
from tests.udfs.test_extract import SCHEMA, Existing, Graph
from udfs.extract import ExtractSettings, extract_partition
from udfs.queries import PICTURE_SCHEMA, QUERY_SCHEMA, QueryModel, picture_queries

COLOUR = (200, 60, 40)


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    """One colour in Display P3, the same bytes again, and a picture with a profile for grey."""
    picture = Image.new("RGB", (20, 10), COLOUR)
    paths = [tmp_path / name for name in ("p3.png", "again.png", "wrong.png", "wrong_again.png")]
    for path in paths[:2]:
        p3_of(picture).save(path, icc_profile=matrix_profile(P3))
    for path in paths[2:]:
        picture.save(path, icc_profile=grey_profile(1.0))
    return paths


@pytest.mark.parametrize("colour", COLOURS)
def test_rows_and_queries_have_the_same_colours(
    task_settings: ExtractSettings, pictures: list[Path], colour: str
) -> None:
    plan = [
        {"image_id": path.name, "uri": str(path), "size": None, "action": "new"}
        for path in pictures
    ]
    function = extract_partition(
        replace(task_settings, colour=colour),
        Graph(),  # type: ignore[arg-type]
        None,
        Existing(),  # type: ignore[arg-type]
    )
    (values,) = summaries(function, in_batches(plan, 4, SCHEMA))
    file = TaskSummary.from_dict(values).file
    assert file is not None
    table = pq.read_table(f"{task_settings.table_uri}/{file.path}")
    stored = {row["image_id"]: row for row in table.to_pylist()}
    assert {row["status"] for row in stored.values()} == {"ok"}
    features = [stored[path.name]["features"] for path in pictures]
    differences = np.abs(np.subtract(features, COLOUR)).max(axis=1)
    details = [stored[path.name]["error_detail"] for path in pictures]
    assert differences[2:] == pytest.approx([0, 0], abs=1e-3)
    assert details[:2] == [None, None]
    if colour == SRGB:
        assert max(differences[:2]) <= 1
        assert all("expected one of RGB" in detail for detail in details[2:])
    else:
        assert min(differences[:2]) > 5
        assert details[2:] == [None, None]

    model = QueryModel(
        model_id="m",
        graph_sha256=task_settings.graph_sha256,
        dimension=3,
        metric="euclidean",
        input_size=SIDE,
        resize="pil-bilinear",
        colour=colour,
    )
    wanted = [{"uri": str(path), "size": None} for path in pictures]
    queries = rows(
        picture_queries(model, Graph()),  # type: ignore[arg-type]
        in_batches(wanted, 2, to_arrow_schema(PICTURE_SCHEMA)),
        QUERY_SCHEMA,
    )
    for query in queries:
        expected = stored[Path(query["query_id"]).name]["features"]
        np.testing.assert_allclose(np.frombuffer(query["vector"], "<f4"), expected, atol=1e-3)
    assert len(queries) == len(pictures)
