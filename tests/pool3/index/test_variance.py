"""What a reduction keeps of rows is told as the fit tells it of those that it saw."""

from __future__ import annotations

import numpy as np
import pytest

from pool3.index.reduction import Gram, Reduction, fit


@pytest.mark.parametrize("metric", ["angular", "euclidean", "dot"])
def test_the_rows_of_the_fit_are_kept_as_it_says(metric: str) -> None:
    random = np.random.default_rng(1)
    vectors = (random.normal(size=(500, 160)) * np.linspace(3, 0.1, 160)).astype(np.float32)
    gram = Gram(metric, 160)
    gram.add(vectors)
    reduction = fit(gram)
    kept, whole = reduction.variance(vectors)
    assert kept / whole == pytest.approx(reduction.explained_variance, rel=1e-4)
    strange = vectors[:, ::-1].copy()
    kept, whole = reduction.variance(strange)
    assert kept / whole < 0.9 * reduction.explained_variance


def test_without_pca_everything_is_kept() -> None:
    kept, whole = Reduction("euclidean", 4).variance(np.ones((3, 4), dtype=np.float32))
    assert kept == whole > 0
    assert Reduction("euclidean", 4).variance(np.ones((0, 4), dtype=np.float32)) == (0.0, 0.0)
