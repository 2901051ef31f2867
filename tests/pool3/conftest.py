"""What tests of the library share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.small_index import build_index


@pytest.fixture
def make_index(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A function that builds an index from arrays (see `build_index`); returns its folder."""

    def make(vectors: np.ndarray, *, into: Path | None = None, **options: Any) -> Path:
        directory = into or tmp_path_factory.mktemp("indexes") / "index"
        return build_index(directory, vectors, **options)

    return make
