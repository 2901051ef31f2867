"""Which model a run takes, on a table that another release began."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from jobs.options.extract_features import ExtractConfig
from jobs.steps.extract.run import load_checked_model
from pool3.errors import UsageError
from pool3.models.directory import with_colour
from tests.pool3.models.sources.test_seeded import ID_WITHOUT_PROFILES, MODEL_ID


def table_of(model_id: str | None) -> Any:
    """Stand for a table whose rows were made by a model."""
    return SimpleNamespace(model_id=lambda: model_id)


def test_a_table_is_continued_with_the_colours_that_it_has(tmp_path: Path) -> None:
    config = ExtractConfig(input=str(tmp_path), output=str(tmp_path / "table"), model="seeded")
    new = load_checked_model(config, None)
    assert (new.model_id, new.colour) == (MODEL_ID, "srgb")
    assert load_checked_model(config, table_of(None)).model_id == MODEL_ID
    assert load_checked_model(config, table_of(MODEL_ID)).colour == "srgb"
    old = load_checked_model(config, table_of(ID_WITHOUT_PROFILES))
    assert (old.model_id, old.colour) == (ID_WITHOUT_PROFILES, "ignored")
    old.write(str(tmp_path / "old"))
    new.write(str(tmp_path / "new"))
    for name, other, expected in (("old", MODEL_ID, "srgb"), ("new", old.model_id, "ignored")):
        config = ExtractConfig(
            input=str(tmp_path), output=str(tmp_path / "table"), model=str(tmp_path / name)
        )
        model = load_checked_model(config, table_of(other))
        assert (model.model_id, model.colour) == (other, expected)
    with pytest.raises(UsageError, match=f"expected model {'0' * 64}.* found {MODEL_ID}"):
        load_checked_model(config, table_of("0" * 64))
    assert with_colour(old, "srgb").model_id == MODEL_ID
