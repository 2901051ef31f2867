"""The explained variance of rows is that of the fit for the rows of the fit."""

from __future__ import annotations

import numpy as np
import pytest

from pool3.index.reduction.gram import Gram
from pool3.index.reduction.pca import Reduction, fit


@pytest.mark.parametrize("metric", ["angular", "euclidean", "dot"])
def test_rows_of_the_fit_have_its_explained_variance(metric: str) -> None:
    random = np.random.default_rng(1)
    vectors = (random.normal(size=(500, 160)) * np.linspace(3, 0.1, 160)).astype(np.float32)
    gram = Gram(metric, 160)
    gram.add(vectors)
    reduction = fit(gram)
    explained, whole = reduction.variance(vectors)
    assert explained / whole == pytest.approx(reduction.explained_variance, rel=1e-4)
    strange = vectors[:, ::-1].copy()
    explained, whole = reduction.variance(strange)
    assert explained / whole < 0.9 * reduction.explained_variance


def test_without_pca_all_variance_is_explained() -> None:
    explained, whole = Reduction("euclidean", 4).variance(np.ones((3, 4), dtype=np.float32))
    assert explained == whole > 0
    assert Reduction("euclidean", 4).variance(np.ones((0, 4), dtype=np.float32)) == (0.0, 0.0)
