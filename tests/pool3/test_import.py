from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("pyspark", "tensorflow", "keras", "openvino", "IPython")


@pytest.mark.parametrize(
    "code", ["import pool3", "import pool3; pool3.open; pool3.Index; pool3.Hits; pool3.Hit"]
)
def test_importing_pool3_loads_nothing_heavy(code):
    script = f"{code}\nimport sys\nprint([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    )
    assert done.stdout.strip() == "[]"


def test_everything_that_is_offered_is_there():
    import pool3

    assert all(getattr(pool3, name) is not None for name in pool3.__all__)
    with pytest.raises(AttributeError, match="no attribute 'opne'"):
        _ = pool3.opne
