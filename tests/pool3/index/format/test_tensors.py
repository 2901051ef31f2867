"""Files of tensors are read by the format that they state, and by no other."""

from __future__ import annotations

import json

import numpy as np
import pytest
from safetensors.numpy import save

from pool3.errors import InvalidIndex
from pool3.index.format import tensors as tensor_files
from pool3.index.recall.evidence import Evidence
from pool3.index.recall.samples import SampleQueries
from pool3.index.reduction.pca import load_reduction

TENSORS = {"numbers": np.arange(3.0)}
READERS = [
    Evidence.from_bytes,
    SampleQueries.from_bytes,
    lambda data: load_reduction(
        data, metric="angular", dimension=2, reduced=1, explained_variance=1.0
    ),
]


def test_what_was_written_is_read():
    parsed = tensor_files.parsed(tensor_files.serialised(TENSORS, metric="dot"), "numbers")
    assert list(parsed) == ["numbers"]
    np.testing.assert_array_equal(parsed["numbers"], TENSORS["numbers"])


@pytest.mark.parametrize("read", READERS)
def test_a_later_format_is_refused_by_its_version(read):
    data = save(TENSORS, metadata={"pool3": json.dumps({"format_version": 2})})
    with pytest.raises(InvalidIndex, match="format version 1; found version 2"):
        read(data)


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"something else altogether",
        save(TENSORS),
        save(TENSORS, metadata={"pool3": "[]"}),
        save(TENSORS, metadata={"pool3": "{"}),
        (2**40).to_bytes(8, "little") + b"{}",
    ],
)
def test_other_files_are_refused(read, data):
    with pytest.raises(
        InvalidIndex, match=r"expected (the evidence|sample queries|a reduction).*; found"
    ):
        read(data)
