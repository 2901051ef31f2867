from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool3.errors import InvalidIndex, UsageError
from pool3.index.reduction.gram import Gram, choose_dtype, prepare
from pool3.index.reduction.pca import fit, load_reduction
from pool3.index.reduction.tree_space import longest, tree_query, tree_rows

METRICS = ["angular", "euclidean", "dot"]


def rows_of(seed: int, n_rows: int = 300, dimension: int = 140) -> np.ndarray:
    rng = np.random.default_rng(seed)
    mixed = rng.normal(size=(n_rows, 20)) @ rng.normal(size=(20, dimension))
    return (mixed + 0.1 * rng.normal(size=(n_rows, dimension)) + 3).astype(np.float32)


def gram_of(rows: np.ndarray, metric: str) -> Gram:
    gram = Gram(metric, rows.shape[1])
    gram.add(rows)
    return gram


@pytest.mark.parametrize("metric", METRICS)
def test_components_are_those_of_a_float64_svd(metric):
    rows = rows_of(1)
    reduction = fit(gram_of(rows, metric), n_components=20)
    wide = rows.astype(np.float64)
    if metric == "angular":
        wide /= np.linalg.norm(wide, axis=1, keepdims=True)
    mean = wide.mean(axis=0) if metric != "dot" else np.zeros(140)
    _, singular, reference = np.linalg.svd(wide - mean, full_matrices=False)
    components = reduction.components.astype(np.float64)
    signs = np.sign((components * reference[:20]).sum(axis=1))
    np.testing.assert_allclose(components, reference[:20] * signs[:, None], atol=2e-6)
    np.testing.assert_allclose(reduction.mean, mean, atol=1e-6)
    share = (singular[:20] ** 2).sum() / (singular**2).sum()
    assert reduction.explained_variance == pytest.approx(share, rel=1e-9)
    np.testing.assert_allclose(
        reduction.reduce(rows), (wide - mean) @ components.T, atol=1e-4 * np.abs(wide).max()
    )


def test_signs_are_fixed():
    components = fit(gram_of(rows_of(2), "euclidean")).components
    largest = np.abs(components).argmax(axis=1)
    assert (components[np.arange(128), largest] > 0).all()


@pytest.mark.parametrize("metric", METRICS)
def test_merged_sums_are_those_of_all_rows(metric):
    rows = rows_of(3)
    whole, merged = gram_of(rows, metric), Gram(metric, 140)
    for some in (rows[:1], rows[1:100], rows[100:100], rows[100:]):
        merged.merge(Gram.from_bytes(gram_of(some, metric).to_bytes(), metric))
    assert merged.count == whole.count == 300
    np.testing.assert_allclose(merged.products, whole.products, rtol=1e-12)
    np.testing.assert_allclose(merged.total, whole.total, rtol=1e-12)
    assert merged.rounding == pytest.approx(whole.rounding)
    assert merged.spread() == pytest.approx(prepare(rows, metric).var(axis=0).sum())


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dimension", [1, 128])
def test_short_vectors_are_not_projected(metric, dimension):
    rows = rows_of(4, dimension=dimension)
    reduction = fit(gram_of(rows, metric))
    assert (reduction.kind, reduction.dimension) == ("none", dimension)
    np.testing.assert_array_equal(reduction.reduce(rows), prepare(rows, metric).astype(np.float32))
    assert reduction.tree_dimension == dimension + (metric == "dot")


def test_long_vectors_become_128_numbers():
    reduction = fit(gram_of(rows_of(5, dimension=129), "angular"))
    assert (reduction.kind, reduction.dimension) == ("pca", 128)


@given(st.integers(0, 2**32 - 1))
def test_the_extra_column_turns_nearest_into_largest_inner_product(seed):
    rng = np.random.default_rng(seed)
    rows = (rng.normal(size=(50, 6)) * 10 ** rng.uniform(-2, 2, (50, 1))).astype(np.float32)
    query = rng.normal(size=6).astype(np.float32)
    max_norm = longest(rows)
    in_tree = tree_rows(rows, metric="dot", max_norm=max_norm).astype(np.float64)
    squares = ((in_tree - tree_query(query, metric="dot")) ** 2).sum(axis=1)
    inner = rows.astype(np.float64) @ query
    expected = (query.astype(np.float64) ** 2).sum() + max_norm**2 - 2 * inner
    np.testing.assert_allclose(squares, expected, atol=1e-5 * max_norm**2)


def test_other_metrics_have_no_extra_column():
    rows = rows_of(6)
    assert tree_rows(rows, metric="euclidean", max_norm=0.0) is rows
    assert len(tree_query(rows[0], metric="angular")) == 140


def test_written_and_read():
    reduction = fit(gram_of(rows_of(7), "euclidean"))
    data = reduction.to_bytes()
    assert data == reduction.to_bytes()
    stated = {"metric": "euclidean", "dimension": 140, "explained_variance": 0.5}
    again = load_reduction(data, reduced=128, **stated)
    np.testing.assert_array_equal(again.components, reduction.components)
    np.testing.assert_array_equal(again.mean, reduction.mean)
    with pytest.raises(InvalidIndex, match="from 140 to 64 numbers; found a mean"):
        load_reduction(data, reduced=64, **stated)
    with pytest.raises(InvalidIndex, match="expected a reduction; found another file"):
        load_reduction(b"nonsense", reduced=128, **stated)


def test_no_vectors_are_refused():
    with pytest.raises(UsageError, match="at least one usable vector; found none"):
        fit(Gram("angular", 2048))


def test_one_vector_and_equal_vectors_can_be_reduced():
    for n_rows in (1, 5):
        rows = np.ones((n_rows, 200), dtype=np.float32)
        reduction = fit(gram_of(rows, "euclidean"))
        assert np.isfinite(reduction.reduce(rows)).all()


def test_dtype_follows_range_and_precision():
    rows = rows_of(8)
    assert choose_dtype(gram_of(rows, "euclidean")) == "float16"
    assert choose_dtype(gram_of(rows, "angular")) == "float16"
    assert choose_dtype(gram_of(rows * np.float32(1e5), "euclidean")) == "float32"  # overflow
    assert choose_dtype(gram_of(rows * np.float32(1e5), "angular")) == "float16"
    assert choose_dtype(gram_of(rows * np.float32(1e-7), "euclidean")) == "float32"  # underflow
    assert choose_dtype(gram_of(rows + np.float32(1e3), "euclidean")) == "float32"  # offset
    assert choose_dtype(gram_of(rows, "euclidean"), "float32") == "float32"
    with pytest.raises(UsageError, match="auto, float16, float32; found 'int8'"):
        choose_dtype(gram_of(rows, "euclidean"), "int8")
